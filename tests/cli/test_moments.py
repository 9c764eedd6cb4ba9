# SPDX-License-Identifier: Apache-2.0
"""Which moments of a history are tried: all over it, at every time of day, never across a hole."""

from controller.app.backtest.moments import LEAST_LEAD, choose

STEP = 60.0
DAY = 86400.0


def times(begin: float, end: float) -> list[float]:
    return [begin + number * STEP for number in range(int((end - begin) / STEP) + 1)]


def test_a_week_is_met_at_every_time_of_day() -> None:
    found = choose(times(0.0, 7 * DAY), STEP, 3000.0, 28)
    assert len(found) == 28
    assert found == sorted(found)
    assert found[0] >= LEAST_LEAD
    assert found[-1] <= 7 * DAY - 3000
    assert {int(at % DAY / 21600) for at in found} == {0, 1, 2, 3}
    assert len({int(at % DAY / 7200) for at in found}) >= 9


def test_no_run_goes_over_a_hole_and_none_is_the_same_again() -> None:
    found = choose([*times(0.0, 20000.0), *times(50000.0, 60000.0)], STEP, 2000.0, 100)
    assert all(at <= 18000.0 or 53600.0 <= at <= 58000.0 for at in found)
    assert any(at > 50000 for at in found)
    assert len(found) <= (14400 + 4400) / 1000


def test_of_a_short_history_what_there_is_is_taken() -> None:
    """A lead or a deadline less; of next to nothing, nothing."""
    assert choose(times(0.0, 3000.0), STEP, 2000.0, 10)
    assert choose(times(0.0, 1200.0), STEP, 2000.0, 10)
    assert choose(times(0.0, 300.0), STEP, 2000.0, 10) == []
    assert choose([], STEP, 2000.0, 10) == []
