# SPDX-License-Identifier: Apache-2.0
"""Annotations to a policy, or to everything that is wrong with them.

The parser never raises and never stops at the first fault: a team that mends one mistake must not
meet the next one at its next deployment. A key that is not known is a fault and not a comment,
because a misspelt cap that is silently ignored lets through what the team wanted kept back.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from controller.core.evidence.settings import MOST_LATENCY_LIMITS
from controller.core.policy import grammar, keys, promql
from controller.core.policy.grammar import Unreadable
from controller.core.policy.model import (
    AUTO_BAKE_BP,
    AUTO_STEPS,
    DEFAULT_BUDGET,
    PRESETS,
    AfterTrip,
    Bake,
    OnFailure,
    Policy,
    Preset,
    Problem,
    Promotion,
    Traffic,
    UserCheck,
)
from controller.core.values import PREFIX

LONGEST_WARM_UP: Final = 600.0
"""Seconds. While pods are cold nobody compares how quick they are."""

MOST_REMEMBERED: Final = 16_384
"""Characters of a Deployment's annotations whose policy is remembered. That of more is read each
time, or whoever may annotate one could fill the memory."""

MAX_PROBLEMS: Final = 50
"""So many are told, which fits an Event and a screen; the rest is counted."""


def is_target(annotations: Mapping[str, str]) -> bool:
    """Whether these annotations ask for canaries at all, well or badly written."""
    return PREFIX + "policy" in annotations


def policy_of(annotations: Mapping[str, str]) -> Policy | tuple[Problem, ...]:
    """The same of annotations of ours whose prefix was cut off. What was asked for before is
    remembered, since every look of a run asks.
    """
    asked = frozenset((k, v) for k, v in annotations.items() if k not in keys.STATUS_KEYS)
    small = sum(len(text) for pair in asked for text in pair) <= MOST_REMEMBERED
    return (_remembered if small else _whole)(asked)


def _whole(asked: frozenset[tuple[str, str]]) -> Policy | tuple[Problem, ...]:
    return parse({PREFIX + key: text for key, text in asked})


_remembered = functools.lru_cache(maxsize=2048)(_whole)


def parse(annotations: Mapping[str, str]) -> Policy | tuple[Problem, ...]:
    """The policy that a Deployment's annotations ask for, or all problems in the keys' order."""
    ours = {
        key.removeprefix(PREFIX): text
        for key, text in sorted(annotations.items())
        if key.startswith(PREFIX)
    }
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    checks: list[UserCheck] = []
    for key, text in ours.items():
        if keys.is_known(key) and not keys.is_policy(key):
            continue
        if keys.is_check(key):
            found = promql.read(key.removeprefix(keys.CHECK_PREFIX), text)
            if isinstance(found, UserCheck):
                checks.append(found)
            else:
                problems.extend(found)
            continue
        # Suggestions compare with every known key; for the ones that nobody will see that is waste.
        result = _read(key, text, suggest=len(problems) < MAX_PROBLEMS)
        if isinstance(result, Problem):
            problems.append(result)
        else:
            values[key] = result
    problems.extend(_contradictions(ours, values))
    problems.extend(_too_many_checks(ours))
    problems.extend(_too_many_limits(ours))
    if problems:
        return _shortened(problems)
    return dataclasses.replace(_assembled(values), checks=tuple(checks))


def _assembled(values: dict[str, Any]) -> Policy:
    """The preset's policy with what the annotations say put over it."""
    preset = PRESETS[values.pop("policy")]
    if "steps" in values and not preset.observes_only:
        # The preset's cap belongs to the preset's ladder; who writes a ladder means its last step.
        values.setdefault("max-weight", values["steps"][-1].weight_bp)
    if values.get("steps") is AUTO_STEPS:
        values.setdefault("budget", DEFAULT_BUDGET)
        # What the budget asks for is what has to be known, and no number of requests beside it.
        values.setdefault("min-requests", 1)
        bake = values.get("bake", preset.bake)
        values["bake"] = dataclasses.replace(bake, weight_bp=AUTO_BAKE_BP)
    return dataclasses.replace(preset, **{_FIELDS[key]: value for key, value in values.items()})


def _too_many_checks(ours: Mapping[str, str]) -> list[Problem]:
    count = sum(keys.is_check(key) for key in ours)
    if count <= promql.MAX_CHECKS:
        return []
    return [
        Problem(
            key=f"{keys.CHECK_PREFIX}*",
            code="ChecksTooMany",
            message=f"there are {count} checks, and each asks the metrics store at every look",
            hint=f"keep at most {promql.MAX_CHECKS}",
        )
    ]


def _too_many_limits(ours: Mapping[str, str]) -> list[Problem]:
    """Counted beside the reading, so that what else is wrong with them is told at the same time."""
    count = len(ours.get("latency", "").split(","))
    if count <= MOST_LATENCY_LIMITS:
        return []
    return [
        Problem(
            key="latency",
            code="LatencyLimitsTooMany",
            message=f"there are {count} limits of latency, and {MOST_LATENCY_LIMITS} can be judged",
            hint=f"keep at most {MOST_LATENCY_LIMITS}, like p50, p95 and p99; the whole histogram "
            "is compared with stable's in any case",
        )
    ]


def _contradictions(ours: Mapping[str, str], values: Mapping[str, Any]) -> list[Problem]:
    """What no single value shows."""
    found: list[Problem] = []
    if "policy" not in ours:
        found.append(_policy_missing())
    automatic = values.get("steps") is AUTO_STEPS
    by_pods = values.get("traffic") is Traffic.REPLICAS
    if by_pods and values.get("promotion") is Promotion.SHIFT:
        found.append(
            _contradiction(
                "promotion",
                "promotion by shift moves the weights of a route, and traffic: replicas does "
                "without one",
                "write promotion: roll, or traffic: gateway",
            )
        )
    if by_pods and automatic:
        found.append(
            _contradiction(
                "steps",
                "auto begins with 1 % of the requests, and whole pods cannot be cut so fine",
                "write the steps, like 25@5m,50@5m, or traffic: gateway",
            )
        )
    if "budget" in values and not automatic:
        found.append(
            _contradiction(
                "budget",
                "a budget of bad requests belongs to the ladder that climbs by it",
                "write steps: auto, or remove budget",
            )
        )
    if values.get("policy") is Preset.OBSERVE and "max-weight" in ours:
        found.append(
            _contradiction(
                "max-weight",
                "under the policy observe there is no canary to cap",
                "remove max-weight, or choose another policy",
            )
        )
    if by_pods and values.get("metrics") in keys.SERVICE_PROVIDERS:
        found.append(
            _contradiction(
                "metrics",
                "behind one Service a gateway's counters cannot tell two versions apart",
                f"write {keys.one_of({'auto'} | keys.POD_PROVIDERS)}",
            )
        )
    return found


def _contradiction(key: str, message: str, hint: str) -> Problem:
    return Problem(key=key, code="Contradiction", message=message, hint=hint)


def _read(key: str, text: str, *, suggest: bool) -> object:
    """The value of one annotation, or the problem with it."""
    if key not in keys.POLICY_KEYS:
        return _unknown(key, suggest=suggest)
    if len(text) > grammar.MAX_TEXT:
        return Problem(
            key=key,
            code="ValueTooLong",
            message=f"the value has {len(text)} characters",
            hint=f"write at most {grammar.MAX_TEXT}",
        )
    try:
        return _READERS[key](text)
    except Unreadable as fault:
        return Problem(key=key, code="ValueInvalid", message=fault.message, hint=fault.hint)


def _unknown(key: str, *, suggest: bool) -> Problem:
    instead = keys.not_offered(key)
    if instead is not None:
        return _not_offered(key, key, instead)
    meant = keys.suggestion(key) if suggest else None
    return Problem(
        key=grammar.shown(key)[1:-1],
        code="KeyUnknown",
        message=f"{PREFIX}{grammar.shown(key)[1:-1]} is not an annotation of Switchgear",
        hint=f"did you mean {PREFIX}{meant}?" if meant else "remove it",
    )


def _not_offered(key: str, what: str, instead: str) -> Problem:
    return Problem(
        key=grammar.shown(key)[1:-1],
        code="NotSupported",
        message=f"{grammar.shown(what)[1:-1]} is not supported in this version",
        hint=instead,
    )


def _policy_missing() -> Problem:
    return Problem(
        key="policy",
        code="PolicyMissing",
        message=f"{PREFIX}policy is not set, so nothing is enabled",
        hint=f"write {PREFIX}policy: standard",
    )


def _shortened(problems: list[Problem]) -> tuple[Problem, ...]:
    more = len(problems) - MAX_PROBLEMS
    if more <= 0:
        return tuple(problems)
    rest = Problem(key="policy", code="MoreProblems", message=f"{more} more problems are not shown")
    return (*problems[:MAX_PROBLEMS], rest)


def _one_of(kind: type[Enum]) -> Callable[[str], object]:
    """A reader for the values of an enumeration."""

    def read(text: str) -> object:
        words: dict[str, Enum] = {member.value: member for member in kind}
        word = text.strip()
        if word not in words:
            known = ", ".join(words)
            raise Unreadable(f"{grammar.shown(word)} is not known", f"write one of {known}")
        return words[word]

    return read


def _provider(text: str) -> str:
    word = grammar.name(text)
    known = ", ".join(("auto", *sorted(keys.METRICS_PROVIDERS)))
    if word not in {"auto"} | keys.METRICS_PROVIDERS:
        raise Unreadable(
            f"{grammar.shown(word)} is no provider of metrics that is known",
            f"write one of {known}",
        )
    return word


def _bake(text: str) -> Bake:
    return Bake(seconds=grammar.duration(text))


def _warm_up(text: str) -> float:
    found = grammar.duration(text)
    if found > LONGEST_WARM_UP:
        problem = f"{grammar.shown(text)} is longer than pods are cold"
        raise Unreadable(problem, "write at most 10m")
    return found


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "policy": _one_of(Preset),
    "steps": grammar.steps,
    "budget": grammar.count,
    "max-weight": grammar.weight,
    "bake": _bake,
    "traffic": _one_of(Traffic),
    "route": grammar.routes,
    "service": grammar.name,
    "metrics": _provider,
    "error-rate": grammar.share,
    "latency": grammar.latency,
    "min-requests": grammar.count,
    "deadline": grammar.duration,
    "metrics-deadline": grammar.duration,
    "warm-up": _warm_up,
    "breaker": grammar.share,
    "after-trip": _one_of(AfterTrip),
    "promotion": _one_of(Promotion),
    "total-load": grammar.metrics,
    "on-failure": _one_of(OnFailure),
    "paused": grammar.flag,
}

_FIELDS: Final[dict[str, str]] = {
    "steps": "steps",
    "budget": "budget",
    "max-weight": "max_weight_bp",
    "bake": "bake",
    "traffic": "traffic",
    "route": "routes",
    "service": "service",
    "metrics": "metrics",
    "error-rate": "error_rate",
    "latency": "latency",
    "min-requests": "min_requests",
    "deadline": "deadline_seconds",
    "metrics-deadline": "metrics_deadline_seconds",
    "warm-up": "warm_up_seconds",
    "breaker": "breaker_share",
    "after-trip": "after_trip",
    "promotion": "promotion",
    "total-load": "total_load",
    "on-failure": "on_failure",
    "paused": "paused",
}
"""The field of `Policy` behind each annotation; `policy` itself chooses where the rest is from."""
