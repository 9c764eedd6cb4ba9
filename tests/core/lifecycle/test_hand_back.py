# SPDX-License-Identifier: Apache-2.0
"""Requests go back to the Deployment's own pods as far as there are enough of them."""

from itertools import pairwise

from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.table import Phase
from tests.core.lifecycle.paper import NEW, Paper
from tests.core.lifecycle.test_machine import at_rest, drive, promises


def _handed(paper: Paper, memory: Memory) -> list[float]:
    """For the present part: requests of each own pod, in those of a canary pod at the whole."""
    if memory.phase is not Phase.HANDING_BACK or not paper.canary_pods:
        return []
    own = (10_000 - paper.share()) / 10_000
    return [own * paper.canary_pods / paper.sets[NEW]]


def test_an_autoscaler_that_shrank_stable_grows_it_before_it_gets_everything() -> None:
    """One that follows the Service alone: in the bake it leaves a single pod of four."""
    loads: list[float] = []
    fewest = 4

    def starves(paper: Paper, memory: Memory) -> None:
        nonlocal fewest
        if memory.run.lanes and memory.phase is not Phase.RESTORING:
            paper.replicas = max(1, -(-4 * (10_000 - paper.share()) // 10_000))
            fewest = min(fewest, paper.replicas)

    def kept(paper: Paper, memory: Memory) -> None:
        promises(paper, memory)
        loads.extend(_handed(paper, memory))

    paper = Paper()
    memory = drive(paper, starves, promises=kept)
    assert memory.run.outcome == "promoted"
    at_rest(paper)
    assert fewest == 1
    assert max(loads) <= 1.5, "half as much again, and only until the autoscaler has followed"
    assert paper.sets[NEW] == 4


def test_a_deployment_that_was_scaled_in_gets_time_and_is_promoted_all_the_same() -> None:
    """Its load has fallen: nothing grows, and the next part builds on the one that stands."""
    parts: list[int] = []
    since: list[float] = []

    def scaled(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.ROLLING:
            paper.replicas = 1
        if memory.phase is Phase.HANDING_BACK and [paper.share()] != parts[-1:]:
            parts.append(paper.share())
            since.append(paper.now)

    paper = Paper()
    memory = drive(paper, scaled)
    assert memory.run.outcome == "promoted"
    at_rest(paper)
    assert parts == [10_000, 6_250, 4_375, 1_563, 0]
    stood = [later - earlier for earlier, later in pairwise(since)]
    assert min(stood[1:]) >= 60
    assert paper.sets[NEW] == 1
