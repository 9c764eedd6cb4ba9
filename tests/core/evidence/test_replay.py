# SPDX-License-Identifier: Apache-2.0
"""The planned run on stable's own past: calm pods need no more care, pods with bad minutes do."""

import random
from collections.abc import Mapping, Sequence

import pytest

from controller.core.evidence import calibration
from controller.core.evidence.calibration import UNKNOWN, Calibration, watching
from controller.core.evidence.dispersion import Count
from controller.core.evidence.measures import Gauge
from controller.core.evidence.past import Past
from controller.core.evidence.settings import Settings
from tests.core.evidence.traffic import around, binomial, certified

SCRAPE = 15.0


def past(source: random.Random, pods: int, *, incident: float = 1.0, count: int = 480) -> Past:
    """Two hours of pods of which one at a time has a bad minute now and then."""
    rows: Mapping[str, Sequence[Count]] = {
        f"pod-{pod}": [
            (requests := around(source, 300), binomial(source, requests, bad))
            for at in range(count)
            for bad in [0.002 * (incident if (at // 4) % (10 * pods) == 10 * pod else 1.0)]
        ]
        for pod in range(pods)
    }
    return Past(rows=rows, gap=SCRAPE)


RUN = 60
"""Intervals."""


def measured(known: Past) -> Calibration:
    return calibration.of(known, RUN * SCRAPE)


def test_a_calm_past_needs_no_more_care_and_says_how_often_it_was_tried() -> None:
    known = past(random.Random(1), 5)
    found, turns = certified(measured(known), known, RUN)
    assert found.phi <= 2.0
    assert found.cap_scrapes == calibration.KNOWN_CAP
    assert turns == 40
    assert "of 40 replays of this run on stable's own past 0 would have" in found.words


def test_pods_with_bad_minutes_ask_for_more_care_than_phi_alone() -> None:
    known = past(random.Random(2), 5, incident=40.0)
    reckless = Calibration(phi=1.0, cap_scrapes=2, known=True, words="as if errors were alone")
    found, _ = certified(reckless, known, RUN)
    assert (found.phi, found.cap_scrapes) > (reckless.phi, reckless.cap_scrapes)
    assert measured(known).phi > 3


@pytest.mark.parametrize("pods", [0, 1, 2])
def test_where_nobody_can_play_the_canary_nothing_is_claimed(pods: int) -> None:
    known = past(random.Random(3), pods)
    found, turns = certified(measured(known), known, RUN)
    assert turns == 0
    assert found == measured(known)


def test_a_calibration_survives_being_written_down_and_is_taken_over() -> None:
    found = Calibration(
        phi=1.47, latency_phi=2.5, cap_scrapes=4, known=True, volume=123.456,
        buckets=((0.1, 5), (float("inf"), 9)), words="as measured",
    )  # fmt: skip
    assert Calibration.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="damaged"):
        Calibration.from_json({"phi": "1"})
    watched = watching(found, (Gauge(name="open files", usual=0.1, floor=0.2, ends=True),))
    assert Calibration.from_json(watched.to_json()) == watched
    # As it was written before anything was watched.
    older = {key: value for key, value in found.to_json().items() if key != "gauges"}
    assert Calibration.from_json(older) == found
    settings = found.applied(Settings())
    assert (settings.dispersion, settings.latency_dispersion) == (1.47, 2.5)
    assert (settings.cap_scrapes, settings.volume, settings.past) == (4, 123.456, found.buckets)
    careful = UNKNOWN.applied(Settings(dispersion=1.0, dispersion_known=True))
    assert (careful.dispersion, careful.dispersion_known) == (3.0, False)
