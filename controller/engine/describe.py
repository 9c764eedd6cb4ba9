# SPDX-License-Identifier: Apache-2.0
"""Effects, verdicts and refusals as journal bodies: integers, texts and lists, never a float."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from controller.core.effects import Effect
from controller.core.evidence.judge import Verdict
from controller.core.evidence.tally import Tally


def plain(value: Any) -> Any:
    """Any value of the core as canonical JSON can hold it; floats become decimal texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    match value:
        case enum.Enum():
            return plain(value.value)
        case bool() | int() | str() | None:
            return value
        case float():
            return f"{value:.6g}"
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return str(value)


def effect(item: Effect) -> dict[str, Any]:
    """An effect by its name and fields."""
    return {"effect": type(item).__name__, **plain(item)}


def verdict(found: Verdict) -> dict[str, Any]:
    """A verdict with its figures and reasons."""
    return {
        "outcome": found.outcome.value,
        "check": found.check,
        "fast": found.fast,
        "reasons": [reason.to_json() for reason in found.reasons],
        "canary": tally(found.canary),
        "stable": tally(found.stable),
        "log10_evidence": f"{found.log10_evidence:.3f}",
        "log10_needed": f"{found.log10_needed:.3f}",
        "difference": {
            "at_least": f"{found.at_least:.6f}",
            "at_most": f"{found.at_most:.6f}",
            "margin": f"{found.settings.safe_margin:.6f}",
        },
        "beta": f"{found.settings.beta:.6g}",
        **_slower(found),
        "limits": _limits(found),
        "parts": [{"check": name, "log10": f"{part:.3f}"} for name, part in found.parts],
        "evidence_seconds": f"{found.evidence_seconds:.3f}",
        "data_at": "" if found.data_at is None else f"{found.data_at:.3f}",
        "seconds_to_go": "" if found.seconds_to_go is None else f"{found.seconds_to_go:.0f}",
    }


def tally(counts: Tally) -> dict[str, int]:
    """Requests and errors of one track."""
    return {"requests": counts.requests, "errors": counts.errors}


def _slower(found: Verdict) -> dict[str, Any]:
    """Slow answers by bound, as counts: what an interval of any of them is made of."""
    seen = found.slower
    if seen is None:
        return {}
    return {
        "slower": {
            "told": f"{seen.told:g}",
            "bounds": [f"{bound:g}" for bound in seen.bounds],
            "canary": list(seen.canary),
            "stable": list(seen.stable),
            "timed": list(seen.timed),
            "phi": f"{seen.phi:.4g}",
        }
    }


def _limits(found: Verdict) -> dict[str, Any]:
    """What both versions are held against; a limit of latency by the bounds that stand for it."""
    settings, evidence = found.settings, found.evidence
    allowed = settings.limits.max_error_rate
    latency = zip(settings.limits.latency, evidence.limit_bounds, evidence.timely, strict=False)
    return {
        "errors": "" if allowed is None else f"{allowed:.6g}",
        "times_stable": f"{settings.tolerance:.6g}",
        "times_stable_slow": f"{settings.latency_tolerance:.6g}",
        "latency": [
            {
                "bound": f"{bound:g}",
                "slow": f"{slow:.6g}",
                "proven_at": f"{known.seconds:g}",
                "ruled_out": f"{settings.slow_ruled_out(slow):.6g}",
            }
            for (_, slow), bound, known in latency
        ],
    }
