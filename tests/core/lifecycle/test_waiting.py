# SPDX-License-Identifier: Apache-2.0
"""What a run that waits says: why, for how long, and when its deadline ends it."""

import re

from controller.core.lifecycle import machine
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.situation import Decision
from controller.core.lifecycle.table import Phase
from tests.core.lifecycle.paper import Paper, begun
from tests.core.lifecycle.test_machine import MOST_TICKS, Script, nothing

DEADLINE = re.compile(r"; the deadline ends the run in about (\d+) (s|min)$")


def played(paper: Paper, script: Script = nothing) -> list[tuple[float, Memory, Decision]]:
    """Every tick of a run until it is on its way back: when, from what, and what was decided."""
    memory, told = begun(paper), []
    for _ in range(MOST_TICKS):
        script(paper, memory)
        decision = machine.step(paper.situation(memory), memory)
        told.append((paper.now, memory, decision))
        for effect in decision.effects:
            paper.apply(effect)
        memory = decision.memory
        if memory.run.ending is not None:
            break
        paper.pass_time()
    return told


def left(words: str) -> float:
    """Seconds to the deadline that a person was told of."""
    found = DEADLINE.search(words)
    assert found is not None, words
    return int(found[1]) * (60.0 if found[2] == "min" else 1.0)


def test_a_run_that_waits_says_when_its_deadline_ends_it_and_it_does() -> None:
    paper = Paper(requests_per_second=0)
    paper.annotations["deadline"] = "60s"
    told = played(paper)
    ended = told[-1][0]
    waits = [(at, one.why) for at, _, one in told if one.memory.phase is Phase.JUDGING]
    assert len(waits) > 60
    for at, why in waits:
        assert "canary has 0 of" in why
        assert abs(at + left(why) - ended) <= 2.0
    assert told[-1][2].memory.run.reason.startswith("no verdict at 5 % after 70 s: ")


def test_a_store_that_is_silent_ends_it_sooner_and_that_is_told() -> None:
    def silent(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING:
            paper.metrics_age = (paper.metrics_age or 0.0) + 1.0

    paper = Paper(requests_per_second=0)
    paper.annotations |= {"deadline": "30m", "metrics-deadline": "60s"}
    told = played(paper, silent)
    waits = [(at, one.why) for at, _, one in told if one.memory.phase is Phase.JUDGING]
    assert left(waits[5][1]) > 1_000.0
    # From the age on at which data are none, that is what ends it.
    for at, why in waits[20:]:
        assert abs(at + left(why) - told[-1][0]) <= 2.0
    assert "the metrics store has given no usable answer" in told[-1][2].memory.run.reason


def test_a_run_whose_series_are_too_many_tells_so_while_it_waits_and_when_it_ends() -> None:
    """To the team of that run the store is silent, and nothing else tells them why."""

    def large(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING:
            paper.metrics_age = (paper.metrics_age or 0.0) + 1.0
            paper.too_large = "more than 64 MB"

    paper = Paper()
    paper.annotations["metrics-deadline"] = "60s"
    told = played(paper, large)
    waits = [one.why for _, _, one in told if one.memory.phase is Phase.JUDGING]
    assert len(waits) > 50
    assert all("(more than 64 MB)" in why for why in waits[2:])
    assert "no usable answer" in told[-1][2].memory.run.reason
    assert told[-1][2].memory.run.reason.endswith("too many (more than 64 MB)")


def test_while_a_person_keeps_it_no_deadline_runs() -> None:
    def paused(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING:
            paper.annotations["paused"] = "true"

    paper = Paper(requests_per_second=0)
    paper.annotations["deadline"] = "30s"
    told = played(paper, paused)
    (at, memory, last) = told[-1]
    assert memory.phase is Phase.JUDGING
    assert at - told[0][0] > 600.0
    assert last.why.endswith("; paused, so that no deadline runs")


def test_before_anything_is_touched_the_replay_is_told_of_with_its_limit() -> None:
    paper = Paper(preflight=None)
    told = [one.why for _, _, one in played(paper)]
    assert any(
        "replaying it on stable's past" in why and why.endswith("half a minute at most")
        for why in told
    )
