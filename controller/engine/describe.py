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
        "parts": [{"check": name, "log10": f"{part:.3f}"} for name, part in found.parts],
        "evidence_seconds": f"{found.evidence_seconds:.3f}",
        "data_at": "" if found.data_at is None else f"{found.data_at:.3f}",
        "seconds_to_go": "" if found.seconds_to_go is None else f"{found.seconds_to_go:.0f}",
    }


def tally(counts: Tally) -> dict[str, int]:
    """Requests and errors of one track."""
    return {"requests": counts.requests, "errors": counts.errors}
