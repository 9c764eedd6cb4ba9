# SPDX-License-Identifier: Apache-2.0
"""A report of a backtest in sentences and lines, for the terminal and for the page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from controller.core.checkup import span

CHART: Final = 36
"""Characters of the longest bar."""

ALPHA: Final = 0.01
"""The share of false rollbacks that the judge promises not to exceed."""


def text(report: Mapping[str, Any]) -> str:
    """The whole report for a terminal."""
    lines = [f"{report['target']}: {headline(report)}", *(f"  {one}" for one in basis(report))]
    lines += ["", "false rollbacks", *(f"  {one}" for one in false_rollbacks(report))]
    lines += ["", "time to detect", *(f"  {one}" for one in detections(report))]
    lines += ["", "time to promote", *(f"  {one}" for one in promotions(report))]
    told = [*notes(report)]
    if told:
        lines += ["", "notes", *(f"  - {one}" for one in told)]
    return "\n".join(lines)


def headline(report: Mapping[str, Any]) -> str:
    """What was tried."""
    ladder = ", ".join(f"{one['share']} {span(one['seconds'])}" for one in report["ladder"])
    return f"{report['policy']} ({ladder}; the last is the bake) on its own history"


def basis(report: Mapping[str, Any]) -> Iterator[str]:
    """What the answers rest on."""
    yield (
        f"{report['windows']} windows from {report['from']} to {report['to']}, scraped every "
        f"{report['scrape_seconds']:g} s; {report['requests_per_second']:.3g} requests/s with "
        f"{100 * report['error_share']:.2g} % errors; counted by {report['counters']}"
    )
    measured = [one for one in report["measured"] if one["windows"]]
    if measured:
        told = ", ".join(f"{one['name']} ({one['windows']})" for one in measured)
        yield f"judged beside requests, in so many windows: {told}"
    phi = report["phi"]
    if phi:
        yield (
            f"stable's past was known to the judge in {report['calibrated']} of them: phi from "
            f"{phi[0]:g} to {phi[-1]:g}"
        )
    else:
        yield "stable's past was known in none of them: phi = 3 and k = 3 were assumed"


def notes(report: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said of the answers, of what had no value, and of all that was left out.

    With the most frequent reason; the JSON has all.
    """
    yield from report["notes"]
    for one in report["measured"]:
        if one["without_value"]:
            count, why = _mostly(one["without_value"])
            yield (
                f"nothing is promoted in {count} of {report['windows']} windows for want of "
                f"{one['name']}: {why}"
            )
        if one["left_out"]:
            count, why = _mostly(one["left_out"])
            yield f"without {one['name']} in {count} of {report['windows']} windows: {why}"


def _mostly(reasons: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """In how many windows there was one of these reasons, and which."""
    others = len(reasons) - 1
    more = f" (and {others} other reason{'s' if others > 1 else ''})" if others else ""
    return sum(reason["windows"] for reason in reasons), reasons[0]["why"] + more


def false_rollbacks(report: Mapping[str, Any]) -> Iterator[str]:
    """How often the running version would have been rolled back, and when."""
    found = report["false_rollbacks"]
    if found is None:
        yield "not answered, see the notes"
        return
    yield (
        f"{found['rolled_back']} of {found['runs']} runs in which pods of the running version "
        f"played the canary; at most {100 * found['at_most_share']:.2g} % with 95 % certainty if "
        "each run stood for itself"
    )
    if not found["rolled_back"]:
        if found["at_most_share"] > ALPHA:
            yield "too few to show the 1 % that the judge promises; more days show more"
        return
    hours, checks = (
        ", ".join(f"{name} ({count})" for name, count in found[what].items())
        for what in ("hours_utc", "decided_by")
    )
    yield f"decided by {checks}"
    yield f"in {found['windows_concerned']} of {found['windows']} windows; begun (UTC) at {hours}"
    for one in found["examples"]:
        pods = ", ".join(one["pods"])
        when = f"{one['at']}, step {one['step']} after {one['seconds']:.0f} s"
        why = one["why"].removeprefix(f"{one['check']}: ")
        yield f"{when}, {one['check']}: {why} ({pods})"


def detections(report: Mapping[str, Any]) -> Iterator[str]:
    """A line with a bar for each regression; the bars are logarithmic."""
    rows = report["detection"]
    medians = [row["seconds"]["median"] for row in rows if row["seconds"]]
    longest, shortest = max(medians, default=1.0), min(medians, default=1.0)
    for row in rows:
        times = row["seconds"]
        bar = "-" if times is None else "#" * _bar(times["median"], shortest, longest)
        yield f"{row['regression']:12} {bar:{CHART}}  {found(row)}"
    slow = report["slow_beyond_seconds"]
    if slow:
        bounds = " or ".join(f"{bound:g} s" for bound in slow)
        yield f"slow: answers that take longer than {bounds}, which nearly all were within"


def found(row: Mapping[str, Any]) -> str:
    """How soon one regression was found, and what it cost."""
    times, cost = row["seconds"], row["bad_answers"]
    told = [
        f"{seconds(times['median'])}, at worst {seconds(times['worst'])}" if times else "not found"
    ]
    if cost:
        told.append(f"{cost['median']:.0f} bad answers, at worst {cost['worst']:.0f}")
    missed = row["runs"] - row["found"]
    if missed:
        told.append(f"{missed} of {row['runs']} not found ({fate(row)})")
    return "; ".join(told)


def fate(row: Mapping[str, Any]) -> str:
    """What became of those runs in which a regression was not found."""
    kinds = (
        ("promoted", row["promoted"]),
        ("rolled back by a check or saturation", row["rolled_back_otherwise"]),
        ("ended inconclusive", row["inconclusive"]),
        ("undecided when the window ended", row["undecided"]),
    )
    return ", ".join(f"{count} {kind}" for kind, count in kinds if count)


def seconds(value: float) -> str:
    """So that a few seconds keep theirs."""
    return span(value)


def promotions(report: Mapping[str, Any]) -> Iterator[str]:
    """How long a version takes that is in order."""
    told = report["promotion"]
    times = told["seconds"]
    if times:
        yield (
            f"{told['promoted']} of {told['runs']} runs: {seconds(times['median'])}, at worst "
            f"{seconds(times['worst'])}, beside the time that pods take to start"
        )
    else:
        yield f"none of {told['runs']} runs came to the promotion"
    if told["inconclusive"]:
        waits = ", ".join(f"{name} ({count})" for name, count in told["waited_for"].items())
        yield (
            f"{told['inconclusive']} ({100 * told['share_of_deadlines']:.2g} %) ended at the "
            f"deadline of a step, waiting for {waits}"
        )
    if told["undecided"]:
        yield f"{told['undecided']} were undecided when their window ended"


def _bar(value: float, shortest: float, longest: float) -> int:
    """From a few characters for the shortest to all for the longest."""
    if longest <= shortest:
        return CHART // 2
    part = math.log(value / shortest) / math.log(longest / shortest)
    return max(round(3 + part * (CHART - 3)), 1)
