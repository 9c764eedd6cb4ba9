# SPDX-License-Identifier: Apache-2.0
"""Counters of pods that come and go: nothing is counted twice, invented or lost but at a death.

The pods live in a small world that knows what each of them really answered; the counts are held
against that.
"""

from dataclasses import dataclass, field

from controller.core.evidence.samples import Cursor, difference
from controller.core.evidence.series import Sample, Series, TrackSeries

WINDOW = 8.0
"""Seconds of samples that one look sees."""


@dataclass
class Pod:
    """One pod: what it has answered, and what its counters showed at each scrape."""

    name: str
    phase: float = 0.0
    """Seconds after the whole second at which it is scraped."""
    instance: str = "10.0.0.1:8080"
    alive: bool = True
    scraped: bool = True
    totals: dict[str, int] = field(default_factory=dict)
    """By code; a counter is born with its first answer."""
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)

    def answer(self, good: int, bad: int = 0) -> None:
        for code, amount in (("200", good), ("500", bad)):
            if amount:
                self.totals[code] = self.totals.get(code, 0) + amount

    def scrape(self, second: float) -> None:
        if self.alive and self.scraped:
            for code, total in self.totals.items():
                samples = self.samples.setdefault((code, self.instance), [])
                samples.append(Sample(second + self.phase, float(total)))

    def series(self, after: float) -> list[Series]:
        return [
            Series(
                (("code", code), ("instance", instance), ("pod", self.name)),
                tuple(one for one in samples if one.at > after),
            )
            for (code, instance), samples in self.samples.items()
            if samples[-1].at > after
        ]


class Crowd:
    """Both tracks, looked at once a second as the feed does."""

    def __init__(self) -> None:
        self.canary: list[Pod] = []
        self.stable: list[Pod] = []
        self.at = 100.0
        self.cursor = Cursor()
        self.counted = {"canary": [0, 0], "stable": [0, 0]}

    def second(self) -> None:
        """Scrape everybody, and look."""
        self.at += 1.0
        for pod in (*self.canary, *self.stable):
            pod.scrape(self.at)
        found = difference(
            self.cursor, self.track(self.canary), self.track(self.stable), newborn=True
        )
        self.cursor = found.cursor
        for interval in found.intervals:
            for name, tally in (("canary", interval.canary), ("stable", interval.stable)):
                self.counted[name][0] += tally.requests
                self.counted[name][1] += tally.errors

    def track(self, pods: list[Pod]) -> TrackSeries | None:
        series = [one for pod in pods for one in pod.series(self.at - WINDOW)]
        if not series:
            return None
        return TrackSeries(
            requests=tuple(series),
            errors=tuple(one for one in series if ("code", "500") in one.labels),
            target_labels=("instance", "pod"),
            pod_label="pod",
        )


def crowd() -> Crowd:
    """Two stable pods with a long past, looked at for the first time."""
    found = Crowd()
    found.stable = [Pod("old-a"), Pod("old-b", phase=0.4)]
    for pod in found.stable:
        pod.answer(50_000, 700)
    found.second()
    assert found.counted == {"canary": [0, 0], "stable": [0, 0]}
    return found


def busy(found: Crowd, seconds: int, *, bad: int = 1) -> None:
    """So many seconds in which each living pod answers nine requests well and some badly."""
    for _ in range(seconds):
        for pod in (*found.canary, *found.stable):
            if pod.alive:
                pod.answer(9, bad)
        found.second()


def test_all_that_a_canary_pod_ever_answered_counts_once() -> None:
    found = crowd()
    busy(found, 3)
    for number in range(10):
        found.canary.append(Pod(f"new-{number}", phase=number / 20))
        busy(found, 2)
    busy(found, 2)
    found.second()
    found.second()
    answered = sum(sum(pod.totals.values()) for pod in found.canary)
    failed = sum(pod.totals.get("500", 0) for pod in found.canary)
    assert found.counted["canary"] == [answered, failed]
    past = 2 * 50_700
    assert found.counted["stable"][0] == sum(sum(p.totals.values()) for p in found.stable) - past


def test_the_very_first_errors_of_a_version_are_seen_though_they_come_before_the_first_scrape() -> (
    None
):
    found = crowd()
    found.canary.append(Pod("new"))
    found.canary[0].answer(0, 7)
    found.second()
    found.second()
    assert found.counted["canary"] == [7, 7]


def test_a_pod_that_was_scraped_before_anybody_asked_for_it_counts_in_full() -> None:
    """The roll has begun, and the new hash is known to the run only some scrapes later."""
    found = crowd()
    late = Pod("rolled")
    for _ in range(4):
        late.answer(9, 1)
        late.scrape(found.at + 1)
        found.second()
    found.canary.append(late)
    busy(found, 4)
    assert found.counted["canary"] == [80, 8]


def test_a_stable_pod_that_is_added_brings_no_past_and_loses_requests_and_errors_alike() -> None:
    found = crowd()
    added = Pod("added")
    added.answer(1_000_000, 5_000)  # As far as the counters say it may have lived for days.
    found.stable.append(added)
    found.second()
    busy(found, 5)
    found.second()
    assert found.counted["stable"] == [3 * 5 * 10, 3 * 5]


def test_the_dead_stay_counted_and_lose_only_what_came_after_their_last_scrape() -> None:
    found = crowd()
    found.canary = [Pod("new-a"), Pod("new-b")]
    busy(found, 5)
    found.canary[0].answer(100, 50)
    found.canary[0].alive = False
    busy(found, 12)
    found.second()
    seen = 5 * 10 + 17 * 10
    assert found.counted["canary"] == [seen, seen // 10]


def test_a_container_that_is_restarted_counts_on_from_zero() -> None:
    found = crowd()
    found.canary = [Pod("new")]
    busy(found, 5)
    found.canary[0].totals.clear()
    busy(found, 3)
    found.second()
    assert found.counted["canary"] == [80, 8]


def test_a_scrape_that_fails_for_a_while_loses_nothing() -> None:
    found = crowd()
    found.canary = [Pod("new-a"), Pod("new-b", phase=0.2)]
    busy(found, 3)
    for pod in found.canary:
        pod.scraped = False
    busy(found, 20)
    for pod in found.canary:
        pod.scraped = True
    busy(found, 2)
    found.second()
    assert found.counted["canary"] == [2 * 25 * 10, 2 * 25]


def test_a_pod_that_changes_its_target_is_not_born_again() -> None:
    """Another scrape job takes over, or the pod's address has changed."""
    found = crowd()
    found.canary = [Pod("new")]
    busy(found, 5)
    found.canary[0].instance = "10.0.0.1:9090"
    found.second()
    busy(found, 5)
    found.second()
    assert found.counted["canary"] == [100, 10]
