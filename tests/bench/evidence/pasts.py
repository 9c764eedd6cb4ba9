# SPDX-License-Identifier: Apache-2.0
"""Healthy runs by the past that they have in common: how many of them are rolled back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from controller.core.evidence.calibration import Calibration
from tests.bench.evidence.table import Mean, Share

GATEWAY_RUNS_EACH: Final = 4
"""Of one past of a gateway's, which is not replayed and so costs little."""


class Run(NamedTuple):
    """One healthy run.

    Attributes:
        lost: Whether it was rolled back.
        struck: Whether its canary had the bad pod.
    """

    lost: bool
    struck: bool


Group: TypeAlias = tuple[Calibration, Sequence[Run]]
"""What a past showed, and what became of its runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of healthy runs.

    Attributes:
        share: Of those rolled back.
        struck: Of those rolled back whose canary had the bad pod; None: no run's had.
        pasts: What their pasts showed.
    """

    share: Share
    struck: Share | None
    pasts: Sequence[Calibration]

    @property
    def phi(self) -> Mean:
        """That of errors, on average."""
        return Mean.of([past.phi for past in self.pasts])

    @property
    def scrapes(self) -> Mean:
        """k, the least number of scrapes to a rollback."""
        return Mean.of([past.cap_scrapes for past in self.pasts])

    @property
    def slow_phi(self) -> Mean:
        """The same of slow answers."""
        return Mean.of([past.latency_phi for past in self.pasts])

    @property
    def far_phi(self) -> Mean:
        """The same of those far out."""
        return Mean.of([max(past.latency_phi, past.far_phi) for past in self.pasts])


def groups(runs: int, each: int) -> int:
    """So many pasts have so many runs, `each` of one past, or a few more."""
    return -(-runs // each)


def played(runs: int, each: int, group: Callable[[int], Group]) -> Found:
    """What became of the groups 0, 1, ... of `each` runs."""
    pasts, hits, struck = [], [], list[bool]()
    for number in range(groups(runs, each)):
        past, ended = group(number)
        pasts.append(past)
        hits.append(sum(run.lost for run in ended))
        struck += [run.lost for run in ended if run.struck]
    return Found(
        share=Share.of_groups(hits, each),
        struck=Share(sum(struck), len(struck)) if struck else None,
        pasts=pasts,
    )
