# SPDX-License-Identifier: Apache-2.0
"""Where the Services lead: nobody's pods go before that has followed, and not for ever."""

import pytest

from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.table import Phase
from tests.core.lifecycle.paper import Paper
from tests.core.lifecycle.sheet import NEW, OLD
from tests.core.lifecycle.test_machine import at_rest, drive


@pytest.mark.parametrize("lost", ["behind", "unheard"])
def test_a_commit_whose_services_do_not_follow_goes_back_to_stable(lost: str) -> None:
    """Not one stable pod goes; after the deadline it is inconclusive, and the traffic is back."""
    paper = Paper()
    paper.annotations["deadline"] = "30s"

    def script(paper: Paper, memory: Memory) -> None:
        setattr(paper, lost, memory.phase is Phase.COMMITTING)

    memory = drive(paper, script)
    assert memory.run.outcome == "inconclusive"
    assert paper.sets == {OLD: 4}
    at_rest(paper)


def test_what_was_seen_to_be_behind_gets_its_time_again() -> None:
    """The stable pods stay for the settling and the drain after the endpoints have followed."""
    paper = Paper()
    followed: list[float] = []
    rolled: list[float] = []

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.COMMITTING:
            waited = paper.now - memory.moments.entered
            paper.behind = waited < 10
            if not paper.behind and not followed:
                followed.append(paper.now)
        if memory.phase is Phase.ROLLING and not rolled:
            rolled.append(paper.now)

    memory = drive(paper, script)
    assert memory.run.outcome == "promoted"
    assert rolled[0] - followed[0] >= 2.0
    assert paper.sets == {OLD: 0, NEW: 4}


def test_tidying_up_waits_for_the_services_and_not_for_ever() -> None:
    """The new version serves already; a store of endpoints that says nothing ends no run."""
    paper = Paper()
    begun: list[float] = []

    def script(paper: Paper, memory: Memory) -> None:
        paper.unheard = memory.phase is Phase.RESTORING
        if paper.unheard and not begun:
            begun.append(paper.now)

    memory = drive(paper, script)
    assert memory.run.outcome == "promoted"
    assert paper.now - begun[0] >= 10
    at_rest(paper)
