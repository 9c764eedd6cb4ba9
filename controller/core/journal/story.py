# SPDX-License-Identifier: Apache-2.0
"""A run as people and programs read it, from its state and its records alone.

The daemon's HTTP door and the command line that reads the API server tell the same story because
both tell it from here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from controller.core.lifecycle import rungs, trial
from controller.core.lifecycle.memory import Run
from controller.core.policy import parse
from controller.core.policy.model import Policy
from controller.core.values import percent


def records(lines: Sequence[str]) -> list[dict[str, Any]]:
    """The records of a journal, oldest first; a line that is not readable is left out."""
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def _decided(lines: Sequence[str], key: str) -> dict[str, Any]:
    """The record of the last decision that has `key`, or an empty one.

    Looked for from the end, since a journal may have thousands of records; canonical JSON has one
    spelling, so that a line without these words need not be parsed.
    """
    for line in reversed(lines):
        if '"kind":"decision"' not in line or f'"{key}":' not in line:
            continue
        for record in records([line]):
            if record.get("kind") == "decision" and key in record["body"]:
                return record
    return {}


def policy_of(run: Run) -> Policy | None:
    """The policy that the run was begun with, if it was valid."""
    found = parse.policy_of(dict(run.annotations))
    return found if isinstance(found, Policy) else None


def facts(run: Run, lines: Sequence[str], *, journal: bool = False) -> dict[str, Any]:
    """Everything of one run; with `journal` its records as well."""
    first = records(lines[:1])
    why = _decided(lines, "why")
    policy = policy_of(run)
    planned = rungs.planned(run, policy) if policy else ()
    steps = [{"weight_bp": step.weight_bp, "dwell_seconds": step.dwell_seconds} for step in planned]
    found: dict[str, Any] = {
        "name": run.name,
        "target": {"namespace": run.target.namespace, "name": run.target.name},
        "phase": run.phase.value,
        "outcome": run.outcome or None,
        "reason": run.reason,
        "step": run.step,
        "steps": steps,
        "weight_bp": run.weight_bp,
        "stable": run.stable_hash,
        "digest": run.digest,
        "why": why["body"]["why"] if why else "",
        "why_at": why["at"] if why else "",
        "verdict": _decided(lines, "verdict").get("body", {}).get("verdict"),
        "breaker_open": run.tripped and not run.released,
        "quarantined": run.quarantined,
        "calibration": trial.calibration(run).words,
        "started_at": first[0]["at"] if first else "",
        "records": len(lines),
    }
    if journal:
        found["journal"] = records(lines)
    return found


def ladder_text(run: Run) -> str:
    """The ladder in one line, the present rung in brackets: `5 % [25 %] 50 % 95 %`."""
    policy = policy_of(run)
    if policy is None:
        return ""
    planned = rungs.planned(run, policy)
    return " ".join(
        f"[{percent(step.weight_bp)}]" if index == run.step else percent(step.weight_bp)
        for index, step in enumerate(planned)
    )


def next_command(run: Run) -> str:
    """What a person would type next, if there is something to do."""
    target = run.target
    if run.tripped and not run.released:
        return f"switchgear explain {target}; ship a fix and `switchgear release {target}`"
    if run.outcome and run.outcome not in {"promoted", "cancelled"}:
        return f"switchgear retry {target}, or ship another version"
    if not run.outcome:
        return f"switchgear abort {target} stops it"
    return ""


def sentence(body: Mapping[str, Any]) -> str:
    """One journal body as a line of text."""
    for key in ("why", "words", "reason"):
        if body.get(key):
            return str(body[key])
    name = body.get("effect")
    return str(name) if name else json.dumps(body, sort_keys=True)
