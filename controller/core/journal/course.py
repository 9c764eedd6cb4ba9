# SPDX-License-Identifier: Apache-2.0
"""What the verdicts of a journal say of one share of answers: how much larger the canary's is than
stable's, how sure that is, and what it is held against.

Read from the journal alone, so that it can be had of any run that is kept, and is the same whoever
asks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from controller.core.evidence import slower
from controller.core.evidence.checks import Kind
from controller.core.evidence.gates import PROOF
from controller.core.evidence.judge import Outcome
from controller.core.evidence.reasons import counted

Verdict = Mapping[str, Any]
"""A verdict as the journal has it."""

RULED_OUT: Final = "to be ruled out to promote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One verdict. Shares are 0..1, differences from stable's -1..1.

    Attributes:
        at: Seconds since the epoch.
        canary: (bad, requests) of the canary at the weight of that time.
        stable: The same of stable.
        least: How much larger the canary's share is at least; -1: nothing is ruled out.
        most: How much larger it is at most; 1: nothing is ruled out.
        outcome: `pass`, `hold` or `fail`.
    """

    at: float
    canary: tuple[int, int]
    stable: tuple[int, int]
    least: float
    most: float
    outcome: str

    @property
    def beside(self) -> float:
        """Stable's share."""
        return self.stable[0] / self.stable[1]

    @property
    def difference(self) -> float:
        """How much larger the canary's share is as counted."""
        return self.canary[0] / self.canary[1] - self.beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the difference is held against.

    Attributes:
        words: What it is.
        limit: Whether it is a limit; else it is what must be ruled out before a promotion.
        shares: The difference from stable's share that it allows, for each point.
    """

    words: str
    limit: bool
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One share of answers over a run.

    Attributes:
        what: Which answers are meant.
        points: The verdicts in which both versions had requests, oldest first; never none.
        lines: What the difference is held against.
        sure: With which certainty each end of the interval holds at all looks, 0..1.
        decides: Whether the newest verdict is about these answers, and no pass.
    """

    what: str
    points: tuple[Point, ...]
    lines: tuple[Line, ...]
    sure: float
    decides: bool


def courses(records: Iterable[Mapping[str, Any]]) -> list[Course]:
    """What can be told of a journal: failed and slow answers, those that decided first."""
    known = list(_verdicts(records))
    if not known:
        return []
    found = [course for course in (_failed(known), _slow(known)) if course is not None]
    return sorted(found, key=lambda course: not course.decides)


def decided(verdict: Verdict) -> str:
    """Which check made the verdict what it is."""
    match verdict["outcome"]:
        case Outcome.FAIL.value:
            return f"{verdict['check']} decided"
        case Outcome.HOLD.value:
            return f"held by {verdict['check']}"
        case _:
            return "nothing speaks against it"


def words(course: Course) -> list[str]:
    """The newest figures of a course as sentences."""
    last, sure = course.points[-1], f"each end with {100 * course.sure:.4g} % certainty"
    found = [
        f"{course.what}: canary {counted(*last.canary, '')}, stable {counted(*last.stable, '')}",
        f"difference to stable {in_points(last.difference)} points, "
        + (f"{told}, {sure}" if (told := between(last)) else "and nothing ruled out yet"),
    ]
    found += [f"{line.words}: {in_points(line.shares[-1])} points" for line in course.lines]
    return found


def between(point: Point) -> str:
    """The interval of a point; empty where it rules nothing out."""
    least, most = in_points(point.least), in_points(point.most)
    if point.least <= -1:
        return f"at most {most}" if point.most < 1 else ""
    return f"between {least} and {most}" if point.most < 1 else f"at least {least}"


def in_points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * share:+.2f}"


def _verdicts(records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, Verdict]]:
    """Each verdict with its time; those of versions that told no limits are left out."""
    for record in records:
        verdict = record["body"].get("verdict") if record.get("kind") == "decision" else None
        if verdict and "limits" in verdict:
            yield datetime.fromisoformat(str(record["at"])).timestamp(), verdict


def _timed(check: str) -> bool:
    """Whether a check is about how long answers take."""
    return check.removeprefix(f"{PROOF} ").startswith(Kind.LATENCY.value)


def _failed(known: Sequence[tuple[float, Verdict]]) -> Course | None:
    found = []
    for at, verdict in known:
        canary, stable = (_pair(verdict[track]) for track in ("canary", "stable"))
        if not canary[1] or not stable[1] or (_timed(verdict["check"]) and _early(verdict)):
            continue
        told = verdict["difference"]
        found.append(
            Point(
                at=at,
                canary=canary,
                stable=stable,
                least=float(told["at_least"]),
                most=float(told["at_most"]),
                outcome=verdict["outcome"],
            )
        )
    last = known[-1][1]
    limits, margin = last["limits"], float(last["difference"]["margin"])
    lines = []
    if not limits["errors"] or _against(last, Kind.ERRORS):
        lines.append(_times(found, float(limits["times_stable"])))
    if limits["errors"]:
        lines.append(_policy(found, float(limits["errors"])))
    if last["outcome"] != Outcome.FAIL.value:
        lines.append(_line(found, RULED_OUT, lambda _: margin, limit=False))
    decides = last["check"] in (Kind.ERRORS.value, Kind.ERROR_LIMIT.value)
    return _course("failed answers", found, lines, known[-1], decides=decides)


def _slow(known: Sequence[tuple[float, Verdict]]) -> Course | None:
    """Answers slower than the bound that the newest verdict is about."""
    bound = next((one["slower"]["told"] for _, one in reversed(known) if "slower" in one), "")
    found = []
    for at, verdict in known:
        seen = verdict.get("slower")
        if seen is None or bound not in seen["bounds"] or not all(seen["timed"]):
            continue
        place = seen["bounds"].index(bound)
        canary = (int(seen["canary"][place]), int(seen["timed"][0]))
        stable = (int(seen["stable"][place]), int(seen["timed"][1]))
        least, most = -1.0, 1.0
        if not _early(verdict):
            beta = float(verdict["beta"]) / len(seen["bounds"])
            eta = 1 / float(seen["phi"])
            least, most = slower.difference(canary, stable, eta=eta, beta=beta)
        found.append(
            Point(
                at=at,
                canary=canary,
                stable=stable,
                least=least,
                most=most,
                outcome=verdict["outcome"],
            )
        )
    last = known[-1][1]
    limits = last["limits"]["latency"]
    lines = [_policy(found, float(one["slow"])) for one in limits if one["bound"] == bound]
    if not lines or _against(last, Kind.LATENCY):
        lines.insert(0, _times(found, float(last["limits"]["times_stable_slow"])))
    if last["outcome"] != Outcome.FAIL.value:
        lines += [
            _line(found, RULED_OUT, _within(float(one["ruled_out"])), limit=False)
            for one in limits
            if one["proven_at"] == bound
        ]
    what, decides = f"answers slower than {bound} s", _timed(last["check"])
    return _course(what, found, lines, known[-1], decides=decides)


def _times(found: Sequence[Point], times: float) -> Line:
    """A limit of so many times stable's share."""
    words = f"limit, {times:g} times stable's share"
    return _line(found, words, lambda point: (times - 1) * point.beside)


def _policy(found: Sequence[Point], allowed: float) -> Line:
    """A limit of so large a share, whatever stable has."""
    words = f"limit of the policy, {100 * allowed:g} %"
    return _line(found, words, _within(allowed))


def _within(allowed: float) -> Callable[[Point], float]:
    """The difference at which the canary has this share."""
    return lambda point: allowed - point.beside


def _line(
    found: Sequence[Point], words: str, most: Callable[[Point], float], *, limit: bool = True
) -> Line:
    return Line(words=words, limit=limit, shares=tuple(most(point) for point in found))


def _course(
    what: str,
    found: Sequence[Point],
    lines: Sequence[Line],
    newest: tuple[float, Verdict],
    *,
    decides: bool,
) -> Course | None:
    if not found:
        return None
    at, verdict = newest
    return Course(
        what=what if found[-1].at == at else f"{what} while both versions had requests",
        points=tuple(found),
        lines=tuple(lines),
        sure=1 - float(verdict["beta"]),
        decides=decides and verdict["outcome"] != Outcome.PASS.value,
    )


def _against(verdict: Verdict, kind: Kind) -> bool:
    """Whether it is the comparison of this kind with stable that speaks against the canary."""
    return bool(verdict["check"] == kind.value and verdict["outcome"] != Outcome.PASS.value)


def _early(verdict: Verdict) -> bool:
    """Whether it fell before its weight was in force: its figures are those of what decided."""
    return not float(verdict["evidence_seconds"])


def _pair(counts: Mapping[str, Any]) -> tuple[int, int]:
    return int(counts["errors"]), int(counts["requests"])
