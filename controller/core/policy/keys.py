# SPDX-License-Identifier: Apache-2.0
"""The annotations below our prefix: which exist, what they mean, and which somebody meant.

One table, so that the parser, the linter, the documentation and the help text cannot disagree.
"""

from collections.abc import Iterable
from typing import Final

SERVICE_PROVIDERS: Final[frozenset[str]] = frozenset(
    {
        "cilium",
        "envoy",
        "haproxy",
        "istio",
        "istio-waypoint",
        "kgateway",
        "linkerd",
        "linkerd-grpc",
        "traefik",
    }
)
"""Providers whose counters tell Services apart: those of gateways and meshes."""

POD_PROVIDERS: Final[frozenset[str]] = frozenset(
    {"application", "application-histogram", "grpc", "micrometer", "opentelemetry"}
)
"""Providers whose counters tell pods apart: those of the applications themselves."""

METRICS_PROVIDERS: Final[frozenset[str]] = SERVICE_PROVIDERS | POD_PROVIDERS
"""Providers that this version has: the files of the metrics adapter, by name. Every daemon can read
them all, so that a name can be judged without asking it."""

UNCOUNTED: Final[dict[str, str]] = {
    "gateway.nginx.org/nginx-gateway-controller": "NGINX Gateway Fabric",
}
"""Gateways that tell neither Services nor bad answers apart in any metrics that could be read: no
file can be written for them. By `controllerName` of their GatewayClass, with their name."""

POLICY_KEYS: Final[dict[str, str]] = {
    "policy": "standard, cautious or fast; this one alone enables a target. Under observe nothing "
    "is held or touched: a change rolls natively and is reported",
    "steps": "the ladder: percent@least time, rising, like 5@2m,25@5m,50@5m; or auto: as fast as "
    "the budget allows",
    "budget": "with steps: auto, how many bad requests a bad version may cost until it is taken "
    "away, like 100",
    "max-weight": "cap on the canary's share before the promotion, in percent, like 25",
    "bake": "how long 95 % (with steps: auto 80 %) stay on the new version before the commit, "
    "like 10m",
    "traffic": "how requests are split: gateway (by the weights of a route), replicas (by the "
    "number of pods behind the same Service) or auto (by a route if one leads to the Service)",
    "route": "a check and no choice, like HTTPRoute/checkout: must be among the routes that lead "
    "to the Services, else the change is refused; every one of them is weighed",
    "service": "a check and no choice: must be among the Services that select the pods, else the "
    "change is refused; every one of them is pinned",
    "metrics": "whose counters judge: auto (as the daemon is told), those of a gateway or mesh "
    f"({', '.join(sorted(SERVICE_PROVIDERS))}) or the pods' own "
    f"({', '.join(sorted(POD_PROVIDERS))})",
    "error-rate": "absolute limit for the share of failed requests, like 1%",
    "latency": "absolute limits for latency, three at most, like p50<100ms,p99<500ms",
    "min-requests": "canary requests that a step needs before it can pass, like 100",
    "deadline": "how long a step may wait for evidence after its dwell, like 30m",
    "metrics-deadline": "how long the metrics store may be silent, or without news of one version, "
    "before the weight goes to 0",
    "warm-up": "how long new pods are cold, like 60s: so long they may fail somewhat more, and are "
    "not compared by their latency",
    "breaker": "least share of bad answers for the fast trip, like 10%",
    "after-trip": "latch (a person closes the breaker) or next-revision",
    "promotion": "shift (the judged pods carry everything meanwhile; needs a route) or roll (the "
    "Deployment rolls natively under traffic, with the breaker armed)",
    "total-load": "External metrics of the Deployment's autoscaler, by name and with commas "
    "between, that follow the load of both versions together",
    "on-failure": "hold (paused on the stable pods) or revert (the old template is put back)",
    "paused": "true keeps the weight where it is",
}
"""Annotations that a team writes, each with what it says, as the help text prints it."""

STATUS_KEYS: Final[frozenset[str]] = frozenset(
    {
        "epoch",
        "held-by",
        "hold",
        "maker",
        "managed",
        "original",
        "override",
        "run",
        "status",
        "template-hash",
        "track",
    }
)
"""Annotations that the controller or the admission policies write; no mistake where they stand."""

REQUEST_KEYS: Final[frozenset[str]] = frozenset({"abort", "kill"})
"""Annotations by which anybody asks for more safety. They are requests, not policy."""

NOT_OFFERED: Final[dict[str, str]] = {
    "migration": "leave it out and run the migration before the change",
    "notify": "leave it out; Kubernetes Events and metrics tell the same",
    "stickiness": "leave it out; requests are split one by one",
    "windows": "leave it out and use paused to keep a run where it is",
}
"""Annotations of the design that this version does not offer, with what to do meanwhile."""

CHECK_PREFIX: Final = "check."
"""A team's own conditions, `check.<name>`: as many keys as there are names."""

_SUGGESTED: Final = (*POLICY_KEYS, *REQUEST_KEYS)
_MAX_KEY: Final = 63
"""Kubernetes' limit for the part after the prefix; more is not compared, only refused."""


def is_known(key: str) -> bool:
    """Whether an annotation of this key, without prefix, is one of ours."""
    return is_check(key) or key in POLICY_KEYS or key in STATUS_KEYS or key in REQUEST_KEYS


def is_check(key: str) -> bool:
    """Whether it is the key of a check, under a good name or a bad one."""
    return key.startswith(CHECK_PREFIX)


def is_policy(key: str) -> bool:
    """Whether a team writes it to say how its target is to be treated."""
    return is_check(key) or key in POLICY_KEYS


def one_of(words: Iterable[str]) -> str:
    """Words to choose one of, in a sentence."""
    *first, last = sorted(words)
    return f"{', '.join(first)} or {last}" if first else last


def not_offered(key: str) -> str | None:
    """What to do instead, if the key belongs to something that this version does not offer."""
    return NOT_OFFERED.get(key)


def suggestion(key: str) -> str | None:
    """The known key that was probably meant: near enough by edit distance, or None."""
    if len(key) > _MAX_KEY:
        return None
    plain = key.lower().replace("_", "-")
    head, dot, name = plain.partition(".")
    if dot and _distance(f"{head}.", CHECK_PREFIX) <= 2:
        return CHECK_PREFIX + name
    distance, best = min((_distance(plain, known), known) for known in _SUGGESTED)
    # A third of the word may be wrong; beyond that a suggestion would be a guess.
    return best if distance <= max(1, len(plain) // 3) else None


def _distance(one: str, other: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions from one to the other."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            cost = diagonal if left == right else 1 + min(diagonal, row[j], row[j - 1])
            diagonal, row[j] = row[j], cost
    return row[-1]
