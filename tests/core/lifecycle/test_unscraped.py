# SPDX-License-Identifier: Apache-2.0
"""Runs that pods judge of which not all are scraped."""

import math
from dataclasses import replace

import pytest
from msgspec import structs

from controller.core.evidence import judge
from controller.core.evidence.reasons import Code
from controller.core.evidence.saturation import WINDOW_SECONDS
from controller.core.lifecycle import coverage, trial
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.situation import Situation
from controller.core.lifecycle.table import Phase
from controller.core.policy.model import Traffic
from tests.core.lifecycle.paper import NEW, OLD, Paper, begun
from tests.core.lifecycle.test_machine import Script, drive
from tests.core.lifecycle.test_native import at_rest, paper, promises

JUDGED = (Phase.JUDGING, Phase.BAKING)
"""Where a PASS is asked for."""


def blind_in(phase: Phase, digest: str = NEW, until: float = math.inf) -> Script:
    """One pod of a version is not scraped from a phase on, for ever or for so many seconds."""
    since: list[float] = []

    def script(made: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            since.append(made.now)
        made.unscraped = {digest: 1} if since and made.now < since[0] + until else {}

    return script


@pytest.mark.parametrize("phase", JUDGED)
def test_nothing_passes_while_a_pod_on_trial_is_not_scraped(phase: Phase) -> None:
    """Its deadline ends the run, the version is not called bad, and the reason is told."""
    made = paper()
    made.annotations["deadline"] = "60s"
    memory = drive(made, blind_in(phase), promises=promises)
    assert (memory.run.outcome, memory.run.quarantined) == ("inconclusive", False)
    assert "pods of the canary" in memory.run.reason
    assert "not scraped (" in memory.run.reason
    assert made.sets == {OLD: 4}
    at_rest(made)


def test_nothing_passes_while_a_pod_of_stable_is_not_scraped() -> None:
    made = paper()
    made.annotations["deadline"] = "60s"
    memory = drive(made, blind_in(Phase.JUDGING, OLD), promises=promises)
    assert memory.run.outcome == "inconclusive"
    assert "1 of 4 pods of stable is not scraped" in memory.run.reason


@pytest.mark.parametrize("phase", JUDGED)
def test_it_goes_on_when_the_pod_is_scraped_again(phase: Phase) -> None:
    made = paper()
    memory = drive(made, blind_in(phase, until=40), promises=promises)
    assert memory.run.outcome == "promoted"


def test_in_the_bake_nothing_is_asked_of_stable() -> None:
    memory = drive(paper(), blind_in(Phase.BAKING, OLD), promises=promises)
    assert memory.run.outcome == "promoted"


@pytest.mark.parametrize("phase", JUDGED)
def test_a_version_that_is_bad_on_the_pods_that_are_seen_goes_back_at_once(phase: Phase) -> None:

    def script(found: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            found.unscraped, found.error_rate = {NEW: 1}, 0.5

    memory = drive(paper(), script, promises=promises)
    assert memory.run.outcome == "rolled-back"
    assert "scraped" not in memory.run.reason


def judging(**run: object) -> tuple[Situation, Memory]:
    """A step of a run by the number of pods, with one of two canary pods not scraped."""
    made = paper(canary=NEW, canary_uid="c1", canary_pods=2, unscraped={NEW: 1})
    found = begun(made)
    known = {"phase": Phase.JUDGING, "traffic": Traffic.REPLICAS, "weight_bp": 500, **run}
    memory = replace(found, run=replace(found.run, **known))  # type: ignore[arg-type]
    return made.situation(memory), memory


def codes(situation: Situation, memory: Memory) -> set[Code]:
    return {reason.code for reason in trial.verdict(situation, memory).reasons}


def test_while_other_things_hold_it_is_told_only_when_it_lasts() -> None:
    """A pod that has just become ready is not scraped yet, which is nothing to tell of."""
    situation, memory = judging()
    memory = coverage.timed(situation, memory)
    assert memory.moments.unscraped == situation.now
    assert Code.PODS_NOT_SCRAPED not in codes(situation, memory)
    later = replace(situation, now=situation.now + 30)
    assert coverage.timed(later, memory) == memory
    assert Code.PODS_NOT_SCRAPED in codes(later, memory)
    rarely = replace(later, scrape_seconds=15.0)
    assert Code.PODS_NOT_SCRAPED not in codes(rarely, memory)
    assert Code.PODS_NOT_SCRAPED in codes(replace(rarely, now=situation.now + 45), memory)
    again = replace(later, scraped=None)
    assert coverage.timed(again, memory).moments.unscraped is None


def test_it_is_known_of_runs_that_pods_judge_by_a_reading_that_is_young() -> None:
    situation, memory = judging()
    assert len(coverage.unscraped(situation, memory.run)) == 1
    named = replace(memory.run, traffic=Traffic.GATEWAY, annotations=(("metrics", "application"),))
    assert len(coverage.unscraped(situation, named)) == 1
    assert coverage.unscraped(situation, replace(named, annotations=())) == ()
    assert coverage.unscraped(replace(situation, scraped=None), memory.run) == ()
    assert coverage.unscraped(replace(situation, clock=situation.clock + 61), memory.run) == ()
    rare = replace(situation, scrape_seconds=WINDOW_SECONDS)
    assert coverage.unscraped(rare, memory.run) == ()


def test_who_was_counted_before_and_is_no_more_is_silent_for_so_long() -> None:
    """Stable as well, while it has requests; and after a restart only when the tail was read."""
    situation, memory = judging()
    now = 1_000_000.0
    situation = replace(situation, clock=now, scraped_at=now, metrics_age=1.0)
    evidence = trial.watched(situation, memory).evidence
    assert evidence is not None
    memory = replace(
        memory, evidence=structs.replace(evidence, canary_at=now - 3, stable_at=now - 200)
    )
    silent = coverage.silence(situation, memory)
    assert (silent.seconds, silent.words.split()[0]) == (200.0, "stable")
    seldom = replace(situation, scrape_seconds=70.0)
    unread = replace(situation, scraped_at=None)
    all_in = replace(memory, run=replace(memory.run, phase=Phase.COMMITTING))
    never = replace(
        memory, evidence=structs.replace(evidence, canary_at=now - 3, stable_at=-math.inf)
    )
    # What nobody could have counted is no silence: back at weight 0, or in the pods' start.
    back = replace(memory, run=replace(memory.run, weight_bp=0))
    for seen, about in (
        (seldom, memory),
        (unread, memory),
        (situation, all_in),
        (situation, never),
        (replace(situation, now=memory.moments.entered), back),
    ):
        assert coverage.silence(seen, about).seconds == 1.0
    raising = replace(situation, now=memory.moments.entered + 70.0)
    assert coverage.silence(raising, back).seconds == 70.0
    assert memory.evidence is not None
    again = replace(memory, evidence=judge.weight_changed(memory.evidence, now - 60))
    assert coverage.silence(situation, again).seconds == 60.0
    anew = replace(situation, counted_from=now - 40)
    assert coverage.silence(anew, again).seconds == 40.0


def test_a_run_that_waits_is_looked_at_when_a_deadline_ends_it_and_never_all_the_time() -> None:
    situation, memory = judging()
    now = 1_000_000.0
    situation = replace(situation, clock=now, scraped_at=now)
    limit = situation.plan.metrics_deadline_seconds
    verdict = trial.verdict(situation, memory)

    baking = replace(memory, run=replace(memory.run, phase=Phase.BAKING))

    def wait(about: Memory, most: float, age: float) -> float:
        seen = replace(situation, metrics_age=age)
        return trial.waiting(seen, about, verdict, most).wait_seconds

    assert not coverage.at_stake(situation, memory)
    assert coverage.at_stake(situation, baking)
    waited = situation.now - memory.moments.entered
    for about in (memory, baking):
        assert wait(about, 600.0, 1.0) == trial.WATCH_SECONDS
        assert wait(about, waited + 2.5, 1.0) == 2.5
        # What is over is not waited for.
        assert wait(about, waited - 10.0, limit + 10.0) == trial.WATCH_SECONDS
    # Silence ends nothing where nothing is exposed.
    assert wait(memory, 600.0, limit - 1.5) == trial.WATCH_SECONDS
    assert wait(baking, 600.0, limit - 1.5) == 1.5


def test_a_restart_lets_nothing_pass_before_the_first_reading() -> None:
    """Where none comes the others' counts have to do, as they do without targets."""
    passed: list[float] = []
    made = paper()

    def script(found: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING:
            passed.append(found.now)
        found.unread = True

    memory = drive(made, script, promises=promises)
    assert memory.run.outcome == "promoted"
    assert len(passed) >= 120
