# SPDX-License-Identifier: Apache-2.0
"""What a daemon would have measured beside requests in a window of history, and what cannot be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.adapters.prometheus.past import Archive
from controller.core import errors
from controller.core.backtest import rehearsal
from controller.core.backtest.measured import Grid, Line, Measured, Pods
from controller.core.backtest.rehearsal import Plan
from controller.core.backtest.stretch import Stretch
from controller.core.evidence.measures import Gauge
from controller.core.evidence.series import PodsKey, TrackKey
from controller.core.evidence.settings import SATURATION
from controller.core.policy import families, promql
from controller.core.policy.model import UserCheck
from controller.engine.measurer import PAST_SECONDS

MOST_GROUPS: Final = 12
"""Groups of pods that play the canary in a window."""

MOST_VALUES: Final = 240
"""Range queries of checks in a window. They are two for each check and each set of pods that plays
the canary; where they would be more, fewer groups play."""

NOT_BY_POD: Final = "the counters do not show which pod answered, so that no pod plays the canary"
UNWATCHED: Final = "nothing that runs out was known of these pods for ten minutes before"
ALONE: Final = "no two pods were scraped from its begin to its end"


@dataclass(slots=True, kw_only=True)
class Beside:
    """What there is in one window beside requests.

    Attributes:
        firsts: The pod that plays the canary first, by number, in each of the groups.
        fewer: Whether there would be more groups if not for the queries of checks.
        measured: The values.
        gauges: What stable showed of the gauges among them in the hour before.
        left: What was left out, and why.
    """

    firsts: tuple[int, ...] = (0,)
    fewer: bool = False
    measured: Measured = field(default_factory=Measured)
    gauges: tuple[Gauge, ...] = ()
    left: dict[str, str] = field(default_factory=dict)


def titled(gauge: str) -> str:
    """What a gauge is called beside checks."""
    return f"{SATURATION}: {gauge}"


async def look(
    archive: Archive, key: TrackKey, plan: Plan, stretch: Stretch, checks: Sequence[UserCheck]
) -> Beside:
    """Ask for every value that the runs of one window may read.

    Args:
        archive: The store's past.
        key: Whose counters are replayed.
        plan: The run.
        stretch: The requests of the window.
        checks: The policy's own.
    """
    if not isinstance(key, PodsKey) or not stretch.pods:
        why = ALONE if isinstance(key, PodsKey) else NOT_BY_POD
        return Beside(left=dict.fromkeys([*(check.title for check in checks), SATURATION], why))
    grid = Grid.over(stretch.at, stretch.end)
    left: dict[str, str] = {}
    asked = []
    for check in checks:
        others = [metric for metric in promql.metrics(check.expression) if families.family(metric)]
        if others:
            left[check.title] = f"a gateway counts {', '.join(others)}, and not by pod"
        else:
            asked.append(check)
    firsts, casts = _groups(plan, stretch, 2 * len(asked) * archive.parts(grid))
    lines: dict[str, Mapping[Pods, tuple[Line, Line]]] = {}
    for check in asked:
        try:
            found, why = await _lines(archive, key, check, casts, grid)
        except errors.MetricsUnavailable as error:
            found, why = {}, error.message
        if found:
            lines[check.title] = found
        else:
            left[check.title] = why
    gauges, figures = await _gauges(archive, key, stretch, grid, left)
    return Beside(
        firsts=firsts,
        fewer=len(firsts) < min(len(stretch.pods), MOST_GROUPS),
        measured=Measured(grid=grid, checks=lines, gauges=figures),
        gauges=gauges,
        left=left,
    )


def _groups(plan: Plan, stretch: Stretch, each: int) -> tuple[tuple[int, ...], tuple[Pods, ...]]:
    """Who plays first in each group, and every set of pods; `each` of them takes so many queries.

    There are fewer groups than `MOST_GROUPS` where there are not so many pods, or too many queries.
    """
    pods = len(stretch.pods)
    for groups in range(min(pods, MOST_GROUPS), 0, -1):
        firsts = tuple(group * pods // groups for group in range(groups))
        casts = rehearsal.casts(plan, stretch, firsts)
        if each * len(casts) <= MOST_VALUES:
            break
    return firsts, casts


async def _lines(
    archive: Archive, key: PodsKey, check: UserCheck, casts: Sequence[Pods], grid: Grid
) -> tuple[dict[Pods, tuple[Line, Line]], str]:
    """The values of both tracks for each set of pods that plays the canary.

    None at all, and the reason, where the canary had no value whoever played it.
    """
    found, why = {}, ""
    for pods in casts:
        mine, others, why = await archive.lines(check.expression, key, pods, grid)
        found[pods] = mine, others
    if all(value is None for mine, _ in found.values() for value in mine):
        return {}, why
    return found, ""


async def _gauges(
    archive: Archive, key: PodsKey, stretch: Stretch, grid: Grid, left: dict[str, str]
) -> tuple[tuple[Gauge, ...], Mapping[str, Mapping[str, Line]]]:
    """What stable showed in the hour before, and the figures of its pods; tells what is left out.

    A gauge without that hour is not watched by the daemon either.
    """
    try:
        known = await archive.at(stretch.at).saturation_past(key, PAST_SECONDS)
        names = [gauge.name for gauge in known]
        figures = await archive.figures(key, names, grid) if known else {}
    except errors.MetricsUnavailable as error:
        left[SATURATION] = error.message
        return (), {}
    if not known:
        left[SATURATION] = UNWATCHED
    for name in names:
        if not figures.get(name):
            left[titled(name)] = "no figure of any pod"
    return tuple(gauge for gauge in known if figures.get(gauge.name)), figures
