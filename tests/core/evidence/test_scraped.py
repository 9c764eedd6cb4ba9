# SPDX-License-Identifier: Apache-2.0
"""Who is scraped, and what is said where it is not all of a version's pods."""

import pytest

from controller.core.evidence.judge import Code, Gate, Outcome, judge, start
from controller.core.evidence.reasons import Reason
from controller.core.evidence.scraped import Jobs, Scraped, lacking, succeeds
from controller.core.evidence.series import PodsKey, Sample, Series, TrackSeries
from controller.core.evidence.settings import Settings
from controller.core.observation import Pod
from controller.ports.metrics import Levels

AT = 5000.0


def pods(*names: str, ready: bool = True, deleting: bool = False) -> list[Pod]:
    return [
        Pod(name=name, uid=name, phase="Running", ready=ready, deleting=deleting) for name in names
    ]


def scraped(canary: str = "", stable: int = 0) -> Scraped:
    """Of the canary the pods with these letters, and so many of stable."""
    return Scraped(
        at=AT, canary=frozenset(canary), stable=frozenset(f"s{number}" for number in range(stable))
    )


def messages(*found: Reason) -> list[str]:
    assert {reason.code for reason in found} <= {Code.PODS_NOT_SCRAPED}
    return [reason.message for reason in found]


def test_each_canary_pod_that_is_ready_has_to_be_scraped() -> None:
    seen = scraped("ab", stable=2)
    assert messages(*lacking(seen, canary=pods("a", "b"), stable=2)) == []
    assert messages(*lacking(seen, canary=pods("a", "b", "c"), stable=2)) == [
        "1 of 3 pods of the canary is not scraped (c): its answers are not counted"
    ]
    assert messages(*lacking(seen, canary=pods(*"gfedcba"), stable=2)) == [
        "5 of 7 pods of the canary are not scraped (c, d, e, 2 more): their answers are not counted"
    ]


def test_who_is_not_ready_or_on_its_way_out_is_not_expected() -> None:
    others = [*pods("b", ready=False), *pods("c", deleting=True)]
    assert messages(*lacking(scraped("a", stable=2), canary=[*pods("a"), *others], stable=2)) == []


@pytest.mark.parametrize(
    ("ready", "seen", "missing"),
    [(2, 2, 0), (2, 1, 1), (10, 9, 0), (10, 8, 2), (40, 36, 0), (40, 35, 5), (2, 3, 0), (0, 1, 0)],
)
def test_of_stable_a_tenth_may_be_missing(ready: int, seen: int, missing: int) -> None:
    """It is known by the number of its pods alone; one that has just gone may be among them."""
    found = messages(*lacking(scraped("a", stable=seen), canary=pods("a"), stable=ready))
    assert [message.split(" pods of stable")[0] for message in found] == [
        f"{missing} of {ready}" for _ in range(missing > 0)
    ]
    assert messages(*lacking(scraped("a", stable=seen), canary=pods("a"))) == []


def test_of_a_track_of_which_nobody_is_scraped_nothing_is_known() -> None:
    """Its counts may be pushed; that there are none is told by themselves."""
    assert messages(*lacking(scraped(stable=2), canary=pods("a"), stable=2)) == []
    assert messages(*lacking(scraped("a"), canary=pods("a"), stable=2)) == []


def test_a_reading_tells_something_while_it_is_young() -> None:
    assert scraped("a").tells(AT + 60)
    assert not scraped("a").tells(AT + 61)


def counters(*jobs: str) -> TrackSeries:
    return TrackSeries(requests=tuple(Series((), (), job=job) for job in jobs))


def test_only_the_jobs_that_bring_the_counts_are_looked_at() -> None:
    """A track without counts yet is scraped by whichever job does so."""
    twin, old = PodsKey("shop", "checkout-canary", ""), PodsKey("shop", "checkout", "h")
    both = {"app": frozenset("a"), "mesh": frozenset("ab")}
    levels = Levels(evaluated_at=AT, pods={twin: both, old: {"mesh": frozenset("s")}})

    def seen(canary: TrackSeries | None, stable: TrackSeries | None) -> tuple[str, str]:
        found = levels.scraped([twin], [old], Jobs.of(canary, stable))
        return "".join(sorted(found.canary)), "".join(found.stable)

    assert seen(counters("app", "app"), counters("app")) == ("a", "")
    assert seen(counters("app", "mesh"), counters("mesh")) == ("ab", "s")
    assert seen(None, None) == ("ab", "s")
    assert seen(counters("pushed"), None) == ("", "s")


@pytest.mark.parametrize(
    ("ups", "good"),
    [
        ({}, False),
        ({-1: 1.0}, True),
        ({-119: 1.0}, True),
        ({-6: 1.0, -1: 1.0}, True),
        ({-6: 0.0, -1: 1.0}, True),
        ({-6: 1.0, -1: 0.0}, False),
        ({-6: 1.0, -1: float("nan")}, False),
        ({-20: 1.0, -15: 1.0}, True),
        ({-21: 1.0, -16: 1.0}, False),
        ({-110: 1.0, -50: 1.0}, True),
    ],
    ids=str,
)
def test_the_newest_scrape_counts_unless_it_is_long_ago(ups: dict[int, float], good: bool) -> None:
    """A target that is gone has no newer samples."""
    samples = [Sample(AT + offset, value) for offset, value in ups.items()]
    assert succeeds(samples, AT) is good


def test_it_holds_and_hides_no_failure() -> None:
    settings, gate = Settings(), Gate(dwell_seconds=1.0)
    unseen = tuple(lacking(scraped("a"), canary=pods("a", "b")))
    evidence = start(settings)
    held = judge(evidence, settings, AT, gate=gate, unseen=unseen)
    assert held.outcome is Outcome.HOLD
    assert Code.PODS_NOT_SCRAPED in {reason.code for reason in held.reasons}
    crash = Reason(check="pods", code=Code.CRASH_LOOP, message="")
    failed = judge(evidence, settings, AT, gate=gate, unseen=unseen, hard_trips=[crash])
    assert failed.outcome is Outcome.FAIL
    assert failed.reasons == (crash,)
