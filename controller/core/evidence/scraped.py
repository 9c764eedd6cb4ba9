# SPDX-License-Identifier: Apache-2.0
"""Whether the counts of a version are those of all its pods, where pods count themselves.

A pod that is not scraped has no counts, and nothing in those of the others shows it. The metrics
store writes for each of its targets whether the scrape succeeded; that is held against the pods
that are ready. It speaks against no version, so that it can only hold.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.core.evidence.readings import READ_SECONDS
from controller.core.evidence.reasons import Code, Reason
from controller.core.evidence.saturation import WINDOW_SECONDS
from controller.core.evidence.series import Sample
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
class Scraped:
    """Names of the pods that are scraped, as the metrics store last said.

    Where no pod is among them nothing is known: what is pushed into a store has no targets.

    Attributes:
        at: When the store said so, by its own clock.
        canary: Pods of the canary's versions of the Deployment.
        stable: Pods of the stable version.
    """

    at: float
    canary: frozenset[str] = field(default=frozenset())
    stable: frozenset[str] = field(default=frozenset())

    def tells(self, now: float) -> bool:
        """Whether it says anything at this time, by the store's clock."""
        fresh = now - self.at <= LATE_SECONDS
        return fresh and bool(self.canary or self.stable)


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
    if unseen:
        yield _reason(len(unseen), len(ready), "the canary", unseen)
    missing = 0 if stable is None else stable - len(scraped.stable)
    if stable is not None and missing > SPARE * stable:
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
    )
