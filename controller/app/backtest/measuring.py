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
the canary; where they would be more, fewer groups play, and if one is too many, fewer checks."""

NOT_BY_POD: Final = "the counters do not show which pod answered, so that no pod plays the canary"
UNWATCHED: Final = "nothing that runs out was known of these pods for ten minutes before"
ALONE: Final = "no two pods were scraped from its begin to its end"
TOO_MANY: Final = f"with it the checks would take more than {MOST_VALUES} queries in a window"


@dataclass(slots=True, kw_only=True)
class Beside:
    """What there is in one window beside requests.

    Attributes:
        firsts: The pod that plays the canary first, by number, in each of the groups.
        fewer: Whether there would be more groups if not for the queries of checks.
        measured: The values.
        gauges: What stable showed of the gauges among them in the hour before.
        silent: The checks among them that had no value whoever played the canary, and why.
        left: What was left out, and why.
    """

    firsts: tuple[int, ...] = (0,)
    fewer: bool = False
    measured: Measured = field(default_factory=Measured)
    gauges: tuple[Gauge, ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)


def titled(gauge: str) -> str:
    """What a gauge is called beside checks."""
    return f"{SATURATION}: {gauge}"


async def look(
    archive: Archive,
    key: TrackKey,
    plan: Plan,
    stretch: Stretch,
    checks: Sequence[UserCheck],
    *,
    given_up: dict[str, str],
) -> Beside:
    """Ask for every value that the runs of one window may read.

    Args:
        archive: The store's past.
        key: Whose counters are replayed.
        plan: The run.
        stretch: The requests of the window.
        checks: The policy's own.
        given_up: What took the store too long in a window before, with what is said of it: it is
            not asked again. What takes too long in this one is added.
    """
    if not isinstance(key, PodsKey) or not stretch.pods:
        why = ALONE if isinstance(key, PodsKey) else NOT_BY_POD
        return Beside(left=dict.fromkeys([*(check.title for check in checks), SATURATION], why))
    grid = Grid.over(stretch.at, stretch.end)
    left = {check.title: why for check in checks if (why := given_up.get(check.title, ""))}
    left |= {check.title: why for check in checks if (why := _counted_elsewhere(check))}
    each = 2 * archive.parts(grid)
    room = MOST_VALUES // max(each * len(rehearsal.casts(plan, stretch, (0,))), 1)
    wanted = [check for check in checks if check.title not in left]
    left |= dict.fromkeys((check.title for check in wanted[room:]), TOO_MANY)
    asked = wanted[:room]
    firsts, casts = _groups(plan, stretch, each * len(asked))
    lines: dict[str, Mapping[Pods, tuple[Line, Line]]] = {}
    silent: dict[str, str] = {}
    for check in asked:
        try:
            lines[check.title], why = await _lines(archive, key, check, casts, grid)
        except errors.MetricsUnavailable as error:
            left[check.title] = _untold(check.title, error, given_up)
            continue
        if why:
            silent[check.title] = why
    gauges, figures, missing = await _gauges(archive, key, stretch, grid, given_up)
    return Beside(
        firsts=firsts,
        fewer=len(firsts) < most_groups(stretch),
        measured=Measured(grid=grid, checks=lines, gauges=figures),
        gauges=gauges,
        silent=silent,
        left=left | missing,
    )


def most_groups(stretch: Stretch) -> int:
    """In how many groups the pods of a window play the canary if checks leave room for all."""
    return min(max(len(stretch.pods), 1), MOST_GROUPS)


def _counted_elsewhere(check: UserCheck) -> str:
    """Why a check cannot be asked of single pods, if so."""
    others = [metric for metric in promql.metrics(check.expression) if families.family(metric)]
    return f"a gateway counts {', '.join(others)}, and not by pod" if others else ""


def _untold(name: str, error: errors.MetricsUnavailable, given_up: dict[str, str]) -> str:
    """What is said of a name for which the store had no answer, or none in time."""
    if not isinstance(error, errors.MetricsTimedOut):
        return error.message
    given_up[name] = f"{error.message}, and was not asked again"
    return given_up[name]


def _groups(plan: Plan, stretch: Stretch, each: int) -> tuple[tuple[int, ...], tuple[Pods, ...]]:
    """Who plays first in each group, and every set of pods; `each` of them takes so many queries.

    There are fewer groups than there might be where those would be too many, and at least one.
    """
    pods, groups = len(stretch.pods), most_groups(stretch)
    while True:
        firsts = tuple(group * pods // groups for group in range(groups))
        casts = rehearsal.casts(plan, stretch, firsts)
        if groups == 1 or each * len(casts) <= MOST_VALUES:
            return firsts, casts
        groups -= 1


async def _lines(
    archive: Archive, key: PodsKey, check: UserCheck, casts: Sequence[Pods], grid: Grid
) -> tuple[Mapping[Pods, tuple[Line, Line]], str]:
    """The values of both tracks for each set of pods that plays the canary.

    Beside them it tells why the canary had none whoever played it, in case it had none.
    """
    found, why = {}, ""
    for pods in casts:
        mine, others, why = await archive.lines(check.expression, key, pods, grid)
        found[pods] = mine, others
    valued = any(value is not None for mine, _ in found.values() for value in mine)
    return found, "" if valued else why


async def _gauges(
    archive: Archive, key: PodsKey, stretch: Stretch, grid: Grid, given_up: dict[str, str]
) -> tuple[tuple[Gauge, ...], Mapping[str, Mapping[str, Line]], dict[str, str]]:
    """What stable showed in the hour before, the figures of its pods, and what is left out.

    A gauge without that hour is not watched by the daemon either.
    """
    if SATURATION in given_up:
        return (), {}, {SATURATION: given_up[SATURATION]}
    try:
        known = await archive.at(stretch.at).saturation_past(key, PAST_SECONDS)
        names = [gauge.name for gauge in known]
        figures = await archive.figures(key, names, grid) if known else {}
    except errors.MetricsUnavailable as error:
        return (), {}, {SATURATION: _untold(SATURATION, error, given_up)}
    if not known:
        return (), {}, {SATURATION: UNWATCHED}
    missing = {titled(name): "no figure of any pod" for name in names if not figures.get(name)}
    return tuple(gauge for gauge in known if figures.get(gauge.name)), figures, missing
