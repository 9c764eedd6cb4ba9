# SPDX-License-Identifier: Apache-2.0
"""Phi: near 1 for independent errors, near the cluster size for clusters, else unknown."""

import math
import random
from dataclasses import replace

import pytest

from controller.core.evidence import past
from controller.core.evidence.calibration import (
    UNKNOWN,
    Calibration,
    estimate,
    of,
    unknown,
    unplayed,
)
from controller.core.evidence.judge import Settings
from controller.core.evidence.samples import Sample, Series, TrackSeries
from tests.core.evidence.traffic import Traffic


def from_history(stable: TrackSeries | None) -> Calibration:
    return of(past.read(stable))


def row(
    source: random.Random, *, burst: int, bad: float = 0.01, count: int = 960
) -> list[tuple[int, int]]:
    traffic = Traffic(per_second=200, share=0.0, stable_bad=bad, burst=burst)
    return [(i.stable.requests, i.stable.errors) for i in traffic.intervals(source, count)]


@pytest.mark.parametrize("pods", [1, 4])
def test_independent_errors_need_no_tempering(pods: int) -> None:
    source = random.Random(1)
    found = estimate({str(pod): row(source, burst=1) for pod in range(pods)})
    assert found.known
    assert found.phi <= 2.0
    assert found.cap_scrapes == 2


@pytest.mark.parametrize("pods", [1, 4])
def test_clusters_show_their_size(pods: int) -> None:
    source = random.Random(2)
    found = estimate({str(pod): row(source, burst=8) for pod in range(pods)})
    assert 6 <= found.phi <= 16


def test_drift_common_to_all_pods_cancels() -> None:
    source = random.Random(3)
    calm = [row(source, burst=1, count=201) for _ in range(4)]
    storm = [row(source, burst=1, bad=0.2, count=20) for _ in range(4)]
    found = estimate({str(pod): calm[pod] + storm[pod] + calm[pod] for pod in range(4)})
    assert found.phi <= 4.0
    alone = estimate({"": calm[0] + storm[0] + calm[0]})
    assert alone.phi == 20, "without pods it looks like bunching, which counts up to a bound"


def test_a_level_that_moves_for_all_hides_no_bunches() -> None:
    source = random.Random(3)
    calm = [row(source, burst=30, count=201) for _ in range(2)]
    storm = row(source, burst=30, bad=0.2, count=20)
    assert 25 <= estimate({"": calm[0] + storm + calm[1]}).phi <= 60


def test_a_bad_pod_that_stays_bad_shows_at_longer_blocks() -> None:
    source = random.Random(4)
    rows = {str(pod): row(source, burst=1, bad=0.02 if pod else 0.01) for pod in range(4)}
    assert estimate(rows).phi > 5


def test_what_shows_in_longer_blocks_than_a_run_has_is_no_noise_in_it() -> None:
    source = random.Random(4)
    rows = {str(pod): row(source, burst=1, bad=0.02 if pod else 0.01) for pod in range(4)}
    assert estimate(rows, run=4).phi < estimate(rows, run=60).phi < estimate(rows).phi
    assert estimate(rows, run=10_000).phi == estimate(rows).phi


def test_without_errors_nothing_is_known_and_it_says_so() -> None:
    found = estimate({"": row(random.Random(5), burst=1, bad=0.0)})
    assert (found.phi, found.cap_scrapes, found.known) == (3.0, 3, False)
    assert found.words.endswith("assuming phi = 3 and k = 3")
    few = estimate({pod: [(1000, 1), (1000, 0)] * 8 for pod in "ab"})
    assert few.words.startswith("16 errors in 16 intervals of stable's history, at least 20")
    assert not estimate({}).known
    assert not estimate({"": [(1000, 50)] * 4}).known
    assert not from_history(None).known


def test_the_settings_of_a_run_take_it_over() -> None:
    settings = unknown("no history").applied(Settings(dispersion=1.0, dispersion_known=True))
    assert (settings.dispersion, settings.cap_scrapes, settings.dispersion_known) == (3.0, 3, False)


def test_who_had_no_turn_to_be_replayed_keeps_what_was_measured() -> None:
    bunched = unplayed(replace(UNKNOWN, phi=46.0, cap_scrapes=2, known=True), "no turn")
    assert (bunched.phi, bunched.cap_scrapes, bunched.known) == (46.0, 3, True)
    calm = unplayed(replace(UNKNOWN, phi=1.0, latency_phi=1.2, cap_scrapes=2), "no turn")
    assert (calm.phi, calm.latency_phi, calm.cap_scrapes) == (3.0, 3.0, 3)
    assert "no turn" in calm.words


def test_history_is_read_from_raw_counters() -> None:
    source = random.Random(6)

    def counter(code: str, pod: str, amounts: list[int]) -> Series:
        total, samples = 1000, []
        for at, amount in enumerate(amounts):
            total += amount
            samples.append(Sample(float(at), float(total)))
        return Series((("code", code), ("instance", "gw"), ("pod", pod)), tuple(samples))

    def of(pod: str) -> tuple[Series, Series]:
        rows = row(source, burst=1, count=300)
        good = counter("200", pod, [requests - errors for requests, errors in rows])
        return good, counter("500", pod, [errors for _, errors in rows])

    pairs = [of("a"), of("b")]
    history = TrackSeries(
        requests=tuple(one for pair in pairs for one in pair), errors=tuple(p[1] for p in pairs)
    )
    by_pod = from_history(replace(history, pod_label="pod"))
    assert by_pod.known
    assert "299 intervals" in by_pod.words
    assert "2 pods" in by_pod.words
    whole = from_history(history)
    assert "neighbouring stretches" in whole.words
    assert whole.phi <= 2.0


def counted(pod: str, row: list[tuple[int, int]], *, until: int) -> tuple[Series, Series]:
    """The counters of one pod, whose last sample is at `until`, one a second."""
    found = []
    for at, code in ((0, "200"), (1, "500")):
        total, samples = 0, [Sample(float(until - len(row)), 0.0)]
        for number, counts in enumerate(row):
            total += counts[1] if at else counts[0] - counts[1]
            samples.append(Sample(float(until - len(row) + number + 1), float(total)))
        found.append(Series((("code", code), ("pod", pod)), tuple(samples)))
    return found[0], found[1]


def test_pods_that_died_or_were_just_born_take_nothing_from_the_others_past() -> None:
    source = random.Random(7)
    pairs = [
        counted("old-1", row(source, burst=1, count=400), until=400),
        counted("old-2", row(source, burst=1, count=400), until=400),
        counted("dead", row(source, burst=8, count=300), until=300),
        counted("young", row(source, burst=1, count=5), until=400),
    ]
    history = TrackSeries(
        requests=tuple(one for pair in pairs for one in pair),
        errors=tuple(pair[1] for pair in pairs),
        target_labels=("pod",),
        pod_label="pod",
    )
    found = from_history(history)
    assert found.known
    assert "400 intervals" in found.words
    assert "2 pods" in found.words
    assert found.phi <= 2.0


def test_pods_that_are_scraped_each_at_a_time_of_its_own_are_all_there() -> None:
    """As a look has them: raw, of five minutes, twenty pods at all phases of 15 s; one has died."""

    def raw(pod: int, until: float = 300.0) -> tuple[Series, Series]:
        phase = 15 * pod / 20 + (0.3 if pod % 3 else 0.0)
        times = [phase + 15 * n for n in range(20) if phase + 15 * n <= until]
        labels = (("pod", f"p{pod}"),)
        return (
            Series(labels, tuple(Sample(at, 1000 + 30.0 * n) for n, at in enumerate(times))),
            Series((*labels, ("le", "+Inf")), tuple(Sample(at, 0.0) for at in times)),
        )

    pods = [*map(raw, range(20)), raw(20, until=240.0)]
    series = TrackSeries(
        requests=tuple(counter for counter, _ in pods),
        buckets=tuple((math.inf, bucket) for _, bucket in pods),
        target_labels=("pod",),
        pod_label="pod",
    )
    found = past.read(series, series)
    assert sorted(found.rows) == sorted(found.timed) == sorted(f"p{pod}" for pod in range(20))
    assert found.volume * 60 == pytest.approx(20 * 120)
