# SPDX-License-Identifier: Apache-2.0
"""What a story came to: figures for people as a table, and for machines as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One story's end. Times are seconds; None stands for what did not happen."""

    name: str
    expected: str
    outcome: str
    seconds: float
    """From the change to the end of the run."""
    visible_to_zero_seconds: float | None = None
    """From the first scrape with a bad answer to weight 0 at the API server."""
    verdict_to_zero_seconds: float | None = None
    """The part of it after the verdict stood: reaction. The part before it is detection."""
    kill_to_zero_seconds: float | None = None
    """From sending the kill to weight 0 at the API server."""
    kill_to_zero_proxy_seconds: float | None = None
    """From sending the kill to the canary's last answer."""
    bad_responses: int = 0
    """Bad answers that clients got from either version."""
    failed_by_shifting: int = 0
    """Requests that failed although no version failed them."""
    past_the_gateway: bool = True
    """Whether clients called pods directly as well, so that their failures count too."""
    failures: tuple[str, ...] = ()
    """The same, by what went wrong."""
    requests: int = 0
    steps: tuple[tuple[float, float], ...] = ()
    """Shares asked for and got."""
    journal: tuple[dict[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    """What is not as the story demands; empty means that it is told well."""
    why: str = ""
    """The run's last words."""

    @property
    def detection_seconds(self) -> float | None:
        """From visible to the verdict."""
        if self.visible_to_zero_seconds is None or self.verdict_to_zero_seconds is None:
            return None
        return round(self.visible_to_zero_seconds - self.verdict_to_zero_seconds, 3)

    def to_json(self) -> dict[str, Any]:
        """The story in the report."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "expected": self.expected,
            "problems": list(self.problems),
            "seconds": self.seconds,
            "visible_to_zero_seconds": self.visible_to_zero_seconds,
            "verdict_to_zero_seconds": self.verdict_to_zero_seconds,
            "kill_to_zero_seconds": self.kill_to_zero_seconds,
            "kill_to_zero_proxy_seconds": self.kill_to_zero_proxy_seconds,
            "requests": self.requests,
            "bad_responses": self.bad_responses,
            "failed_by_shifting": self.failed_by_shifting,
            "failures": list(self.failures),
            "past_the_gateway": self.past_the_gateway,
            "steps": [{"asked": asked, "got": round(got, 4)} for asked, got in self.steps],
            "why": self.why,
            "journal": list(self.journal),
        }


def write(path: Path, results: Sequence[Result]) -> None:
    """Write the report; raises OSError."""
    text = json.dumps({"stories": [result.to_json() for result in results]}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


COLUMNS = ("story", "outcome", "took", "bad visible -> 0", "requests", "bad", "failed", "shares")


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """The table's rows as text, in the order of COLUMNS."""
    return [
        (
            result.name,
            result.outcome if not result.problems else f"{result.outcome} (!)",
            f"{result.seconds:.1f} s",
            _reaction(result),
            f"{result.requests:,}",
            str(result.bad_responses),
            f"{result.failed_by_shifting}{'' if result.past_the_gateway else ' *'}",
            " ".join(f"{asked:.0%}={got:.1%}" for asked, got in result.steps) or "-",
        )
        for result in results
    ]


def _reaction(result: Result) -> str:
    if result.kill_to_zero_seconds is not None:
        proxy = result.kill_to_zero_proxy_seconds
        told = f"kill {result.kill_to_zero_seconds:.3f} s"
        return told + (f", at the proxy {proxy:.2f} s" if proxy is not None else "")
    if result.visible_to_zero_seconds is None:
        return "-"
    if result.detection_seconds is None:
        return f"{result.visible_to_zero_seconds:.2f} s"
    return (
        f"{result.visible_to_zero_seconds:.2f} s = {result.detection_seconds:.2f} detection "
        f"+ {result.verdict_to_zero_seconds:.3f} reaction"
    )


def plain_table(results: Sequence[Result]) -> str:
    """The table for where there is no terminal."""
    table = [COLUMNS, *rows(results)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def footnotes(results: Iterable[Result]) -> list[str]:
    """What must be known to read the table, a line each."""
    note = (
        "* through the gateway only: no client called pods directly, since their addresses cannot "
        "be reached from outside a cluster"
    )
    return [] if all(result.past_the_gateway for result in results) else [note]


def remarks(results: Iterable[Result]) -> list[str]:
    """What is not as it should be, a line each."""
    return [f"{result.name}: {problem}" for result in results for problem in result.problems]
