# SPDX-License-Identifier: Apache-2.0
"""Whether the counts of a version are those of all its pods, where pods count themselves.

A pod that is not scraped has no counts, and nothing in those of the others shows it. The metrics
store writes for each of its targets whether the scrape succeeded; that is held against the pods
that are ready. It speaks against no version, so that it can only hold.

Only the jobs that bring the counts are looked at: a sidecar's port may be scraped where the pod's
own is not, and what is pushed into the store comes by no job at all.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.evidence.readings import READ_SECONDS
from controller.core.evidence.reasons import UNKNOWN, Code, Reason
from controller.core.evidence.saturation import WINDOW_SECONDS
from controller.core.evidence.series import Sample, TrackSeries
from controller.core.evidence.settings import oldest
from controller.core.observation import Pod

LATE_SECONDS: Final = 4 * READ_SECONDS
"""What was read longer ago says nothing of now."""

SPARE: Final = 0.1
"""So large a part of stable's pods may be missing: they are many, come and go, and are what the
canary is held against. Of the canary every pod is on trial."""

MOST_NAMES: Final = 3
"""Pods that a reason names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Names of the jobs that bring the counts of each track; none: no count has come yet."""

    canary: frozenset[str] = frozenset()
    stable: frozenset[str] = frozenset()

    @classmethod
    def of(cls, canary: TrackSeries | None, stable: TrackSeries | None) -> "Jobs":
        """Those of the series of both tracks."""
        none = frozenset[str]()
        return cls(canary=canary.jobs if canary else none, stable=stable.jobs if stable else none)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """Names of the pods that are scraped, as the metrics store last said.

    Of a track of which there is none nothing is known: either its counts come by another way, or
    there are none, which they tell themselves.

    Attributes:
        at: When the store said so, by its own clock.
        canary: Pods of the canary's versions of the Deployment.
        stable: Pods of the stable version.
    """

    at: float
    canary: frozenset[str] = frozenset()
    stable: frozenset[str] = frozenset()

    def tells(self, now: float) -> bool:
        """Whether it says anything of this time, by the store's clock."""
        return now - self.at <= LATE_SECONDS


def succeeds(samples: Sequence[Sample], at: float) -> bool:
    """Whether a target is scraped at a time, by the samples of its `up` in the time before.

    A target that is gone has no newer samples, and the old ones say that all is well.
    """
    if not samples or samples[-1].value != 1.0:
        return False
    gap = samples[-1].at - samples[-2].at if len(samples) > 1 else WINDOW_SECONDS
    return at - samples[-1].at <= oldest(gap)


def lacking(
    scraped: Scraped, *, canary: Iterable[Pod], stable: int | None = None
) -> Iterator[Reason]:
    """What is missing among the counts, for each track of which something is.

    Args:
        scraped: What is scraped.
        canary: The pods on trial. Those that are not ready get no requests.
        stable: How many pods of the stable version are ready; None where it is asked nothing.
    """
    ready = [pod.name for pod in canary if pod.ready and not pod.deleting]
    unseen = [name for name in ready if name not in scraped.canary]
    if scraped.canary and unseen:
        yield _reason(len(unseen), len(ready), "the canary", unseen)
    if stable is None or not scraped.stable:
        return
    missing = stable - len(scraped.stable)
    if missing > SPARE * stable:
        yield _reason(missing, stable, "stable", ())


def _reason(missing: int, total: int, track: str, names: Collection[str]) -> Reason:
    told = sorted(names)[:MOST_NAMES]
    if len(names) > MOST_NAMES:
        told.append(f"{len(names) - MOST_NAMES} more")
    words = "is not scraped" if missing == 1 else "are not scraped"
    whose = "its answers are" if missing == 1 else "their answers are"
    listed = f" ({', '.join(told)})" if told else ""
    return Reason(
        check="data",
        code=Code.PODS_NOT_SCRAPED,
        message=f"{missing} of {total} pods of {track} {words}{listed}: {whose} not counted",
        expected=f"asked for every {READ_SECONDS:g} s, {UNKNOWN}",
    )
