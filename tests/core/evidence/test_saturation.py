# SPDX-License-Identifier: Apache-2.0
"""Figures of what pods use up, from raw samples."""

import math

import pytest

from controller.core.evidence import saturation
from controller.core.evidence.saturation import Item, Kind
from controller.core.evidence.series import Sample, Series

NOW = 10_000.0

THROTTLED = Item(
    name="throttling",
    kind=Kind.SHARE,
    metric="throttled",
    of="periods",
    labels={"container": "+"},
    floor=0.2,
)
POOL = Item(
    name="pool", kind=Kind.LEVEL, metric="used", of="most", labels={"state": "used"}, floor=0.3
)
MEMORY = Item(
    name="memory", kind=Kind.LEVEL, metric="bytes", of="limit", ahead_seconds=1800.0, floor=0.3
)
RESTARTS = Item(name="restarts", kind=Kind.INCREASE, metric="restarts", floor=0.5)


def series(metric: str, *values: float, **labels: str) -> Series:
    """One series with a sample a minute, the last of them now."""
    first = NOW - 60.0 * (len(values) - 1)
    samples = tuple(Sample(first + 60.0 * n, value) for n, value in enumerate(values))
    return Series(tuple(sorted({"__name__": metric, **labels}.items())), samples)


def of(*found: Series) -> dict[str, list[Series]]:
    """Series by the name of their metric."""
    named: dict[str, list[Series]] = {}
    for one in found:
        named.setdefault(dict(one.labels)["__name__"], []).append(one)
    return named


def test_a_share_is_the_increase_of_one_counter_over_that_of_the_other() -> None:
    known = of(
        series("throttled", 100, 103, 109, pod="a", container="app"),
        series("periods", 1000, 1010, 1030, pod="a", container="app"),
    )
    # The window of two minutes has two of the three samples: it is open on its left.
    assert saturation.figure(THROTTLED, known, NOW) == pytest.approx(6 / 20)


def test_the_worst_pod_speaks_for_its_track() -> None:
    known = of(
        series("used", 2, 2, pod="a", state="used"),
        series("used", 9, 9, pod="b", state="used"),
        series("used", 8, 1, pod="b", state="idle"),
        series("most", 10, 10, pod="a"),
        series("most", 10, 10, pod="b"),
    )
    assert saturation.figure(POOL, known, NOW) == pytest.approx(0.9)


def test_what_all_containers_of_a_pod_use_together_is_not_counted_again() -> None:
    known = of(
        series("throttled", 0, 6, pod="a", container="app"),
        series("throttled", 0, 20, pod="a"),
        series("periods", 0, 20, pod="a", container="app"),
        series("periods", 0, 20, pod="a"),
    )
    assert saturation.figure(THROTTLED, known, NOW) == pytest.approx(0.3)


def test_a_level_is_continued_along_its_slope_and_never_down() -> None:
    rising = of(series("bytes", 100, 103), series("limit", 1000, 1000))
    assert saturation.figure(MEMORY, rising, NOW) == pytest.approx((103 + 0.05 * 1800) / 1000)
    # What has just started grows fast too: twice what it uses is all that is read into it.
    starting = of(series("bytes", 100, 200), series("limit", 1000, 1000))
    assert saturation.figure(MEMORY, starting, NOW) == pytest.approx(0.4)
    falling = of(series("bytes", 106, 100), series("limit", 1000, 1000))
    assert saturation.figure(MEMORY, falling, NOW) == pytest.approx(0.1)


def test_a_counter_that_was_begun_anew_counts_from_nothing() -> None:
    known = of(series("restarts", 7, 1, pod="a"))
    assert saturation.figure(RESTARTS, known, NOW) == pytest.approx(1.0)


@pytest.mark.parametrize("every", [5.0, 15.0, 30.0, 59.0, 60.0])
def test_one_restart_is_read_in_one_minute_alone(every: float) -> None:
    """Else a single one would be two failed trials."""
    first = NOW - 600.0
    samples = tuple(
        Sample(first + every * n, float(first + every * n >= NOW - 300.0))
        for n in range(int(900 / every))
    )
    known = of(Series((("__name__", "restarts"), ("pod", "a")), samples))
    minutes = [NOW - 420.0 + 60.0 * n for n in range(8)]
    read = [saturation.figure(RESTARTS, known, at) for at in minutes]
    assert sum(figure or 0.0 for figure in read) == 1.0


@pytest.mark.parametrize(
    ("item", "known"),
    [
        (POOL, of(series("used", 2, 2, state="used"))),
        (POOL, of(series("used", 2, 2, state="used"), series("most", 0, 0))),
        (POOL, of(series("used", 2, 2, state="used"), series("most", -1, -1))),
        (POOL, of(series("used", math.nan, math.nan, state="used"), series("most", 9, 9))),
        (THROTTLED, of(series("throttled", 5, container="a"), series("periods", 9, container="a"))),
        (RESTARTS, of(series("restarts", 7))),
        (RESTARTS, {}),
        (MEMORY, of(series("bytes", 100), series("limit", 100))),
    ],
    ids=["no end", "no limit", "told as -1", "NaN", "one scrape", "born", "nothing", "no slope"],
)
def test_where_nothing_can_be_said_there_is_no_figure(
    item: Item, known: dict[str, list[Series]]
) -> None:
    assert saturation.figure(item, known, NOW) is None


def test_a_past_is_needed_and_its_highest_is_what_is_usual() -> None:
    long = of(
        series("used", *range(1, 31), pod="a", state="used"), series("most", *[100] * 30, pod="a")
    )
    (gauge,) = saturation.gauges([POOL, THROTTLED], long, NOW, 3600.0)
    assert gauge.name == "pool"
    assert gauge.usual == pytest.approx(0.30)
    short = of(series("used", 1, 2, 3, pod="a", state="used"), series("most", 10, 10, 10, pod="a"))
    assert saturation.gauges([POOL], short, NOW, 3600.0) == ()
