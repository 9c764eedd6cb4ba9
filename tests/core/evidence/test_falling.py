# SPDX-License-Identifier: Apache-2.0
"""What falls again and again is no count; what restarts is one, however often."""

import random
from collections.abc import Callable

import pytest

from controller.core.evidence import falling
from controller.core.evidence.judge import (
    Code,
    Gate,
    Outcome,
    Settings,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.samples import Cursor, difference
from controller.core.evidence.series import Sample, Series, TrackSeries

SCRAPES = 40
BEGIN = 1000.0
EVERY = 5.0

Counted = Callable[[int], tuple[float, float]]
"""Good and bad answers that a pod shows at a scrape, by its number."""


def sound(number: int) -> tuple[float, float]:
    return 5000.0 + 500 * number, 50.0 + number


def gauge(number: int) -> tuple[float, float]:
    """Requests under way where good answers should be."""
    return float(random.Random(number).randrange(20, 60)), 50.0 + number


def alone(number: int) -> tuple[float, float]:
    """The same without any other counter beside it."""
    return gauge(number)[0], 0.0


def turns(processes: int) -> Counted:
    """So many processes behind one port."""

    def counted(number: int) -> tuple[float, float]:
        who = random.Random(number).randrange(processes)
        return 100_000.0 + 1000 * who + 125 * number, 1000.0 + 10 * who + number // 4

    return counted


def restarted(every: int) -> Counted:
    """A process that begins anew before so many scrapes, each time at another moment."""

    def counted(number: int) -> tuple[float, float]:
        begun = number // every * every
        since = number - begun + random.Random(begun).random()
        return float(round(500 * since)), float(round(5 * since))

    return counted


def told(canary: Counted, stable: Counted = sound, *, pods: bool = True) -> Verdict:
    """The verdict after all scrapes, of two pods each, or of a gateway that counts so."""

    def track(name: str, counted: Counted) -> TrackSeries:
        names = [f"{name}-{one}" for one in "ab"]
        rows = [
            Series(
                (("code", code), ("instance", pod), ("pod", pod)),
                tuple(
                    Sample(BEGIN + EVERY * number, counted(number + 3 * offset)[place])
                    for number in range(SCRAPES)
                ),
            )
            for offset, pod in enumerate(names)
            for place, code in enumerate(("200", "500"))
        ]
        return TrackSeries(
            requests=tuple(rows),
            errors=tuple(rows[1::2]),
            target_labels=("instance", "pod"),
            pod_label="pod" if pods else "",
        )

    tracks = track("canary", canary), track("stable", stable)
    first = difference(Cursor(), *(one.until(BEGIN) for one in tracks))
    settings = Settings()
    evidence = weight_changed(start(settings), BEGIN)
    found = difference(first.cursor, *tracks)
    assert len(found.intervals) == SCRAPES - 1
    for interval in found.intervals:
        evidence = observe(evidence, settings, interval)
    return judge(evidence, settings, evidence.last_at + 0.5, gate=Gate(dwell_seconds=60.0))


def falls(verdict: Verdict) -> bool:
    return Code.COUNTS_FALL in {reason.code for reason in verdict.reasons}


@pytest.mark.parametrize(
    "counted", [gauge, alone, turns(2), turns(8)], ids=["gauge", "alone", "two", "eight"]
)
def test_what_falls_again_and_again_holds(counted: Counted) -> None:
    """Of either version; which of them is bad is nothing that such figures say."""
    for verdict in (told(counted, counted), told(sound, counted)):
        assert falls(verdict)
        assert verdict.outcome is not Outcome.PASS
        reason = next(one for one in verdict.reasons if one.code is Code.COUNTS_FALL)
        assert f" of {2 * (SCRAPES - 1)} scrapes" in reason.message
        assert reason.expected
        assert verdict.seconds_to_go is None


@pytest.mark.parametrize("every", [2, 3, 5, 20])
def test_a_pod_that_restarts_is_counted_on(every: int) -> None:
    verdict = told(restarted(every), restarted(every))
    assert verdict.outcome is Outcome.PASS
    assert verdict.canary.requests > 0
    assert verdict.canary.scrapes == 2 * (SCRAPES - 1)


def test_what_a_restart_brings_back_later_fell_at_no_scrape() -> None:
    """Libraries expose a status with its first answer: a process begun anew may take minutes."""
    back = {"200": 0, "404": 2, "500": 3, "503": 5}
    """Scrapes after the restart, which comes before the fourth."""

    def seen(code: str) -> Series:
        old = [Sample(number, 10.0 + number) for number in range(4)]
        new = [Sample(number, 2.0 + number - 4) for number in range(4 + back[code], 12)]
        labels = (("code", code), ("instance", "a"), ("pod", "a"))
        return Series(labels, (*old, *new))

    track = TrackSeries(
        requests=tuple(map(seen, back)), target_labels=("instance",), pod_label="pod"
    )
    first = difference(Cursor(), None, track.until(0.0))
    found = difference(first.cursor, None, track).intervals
    assert sum(one.stable.scrapes for one in found) == 11
    assert sum(one.stable.falls for one in found) == 0


def test_sound_counters_never_fall() -> None:
    verdict = told(sound)
    assert verdict.outcome is Outcome.PASS
    assert (verdict.canary.falls, verdict.stable.falls) == (0, 0)


def test_a_gateways_counters_are_taken_as_they_are() -> None:
    """It may begin anew whenever a route changes, and forget one series and not another."""
    assert not falls(told(turns(8), turns(8), pods=False))


@pytest.mark.parametrize(
    ("before", "after", "disordered"),
    [
        ((100, 10), (40, 0), False),
        ((100, 10), (51, 4), True),
        ((100, 10), (50, 5), False),
        ((100, 10), (40, 10), True),
        ((100, 0), (40, 0), False),
        ((100, 10), (200, 9), True),
        ((100, 10), (100, 11), False),
    ],
)
def test_a_restart_takes_everything_back_to_zero(
    before: tuple[float, float], after: tuple[float, float], *, disordered: bool
) -> None:
    pieces = [
        (7, 1.0, 0.0, falling.told(Sample(0.0, early), Sample(1.0, late)))
        for early, late in zip(before, after, strict=True)
    ]
    assert falling.counted(pieces) == (1, disordered)
