# SPDX-License-Identifier: Apache-2.0
"""Time of which nothing is known any more is none of evidence."""

from controller.core.evidence.judge import (
    Gate,
    Interval,
    Outcome,
    Settings,
    Tally,
    Verdict,
    judge,
    observe,
    start,
    weight_changed,
)

CANARY = Tally(requests=40)
STABLE = Tally(requests=360, errors=1)
SETTINGS = Settings()
LAST = 1010.0


def after_hours(begins: float) -> Verdict:
    """Ten scrapes, then one twenty minutes later whose interval begins at a time."""
    evidence = weight_changed(start(SETTINGS), LAST - 10)
    ends = [LAST - 9 + number for number in range(10)]
    for at, seconds in [*((end, 1.0) for end in ends), (LAST + 1205, LAST + 1205 - begins)]:
        interval = Interval(at=at, seconds=seconds, canary=CANARY, stable=STABLE)
        evidence = observe(evidence, SETTINGS, interval)
    return judge(evidence, SETTINGS, LAST + 1205, gate=Gate(dwell_seconds=12.0))


def test_what_a_restart_finds_no_samples_of_begins_the_window_anew() -> None:
    found = after_hours(LAST + 1200)
    assert found.outcome is Outcome.HOLD
    assert found.canary == CANARY
    assert found.evidence_seconds == 5.0


def test_counters_span_an_outage_of_the_store() -> None:
    found = after_hours(LAST)
    assert found.outcome is Outcome.PASS
    assert found.canary.requests > CANARY.requests
