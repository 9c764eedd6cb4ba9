# SPDX-License-Identifier: Apache-2.0
"""What each rung asks for, how strict the judge is, and what is read back after a restart."""

import math
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from controller.core.evidence.calibration import Calibration
from controller.core.evidence.state import Evidence, start, weight_changed
from controller.core.evidence.tally import Interval, Tally
from controller.core.lifecycle import machine, rungs, trial
from controller.core.lifecycle.memory import Memory, Moments, Run, encode, recalled
from controller.core.lifecycle.table import FOLLOWED, TRANSITIONS, Event, Phase
from controller.core.policy.caps import Ceilings
from controller.core.policy.model import Promotion
from tests.core.lifecycle.paper import Paper, begun

AUTO = {"policy": "fast", "steps": "auto", "bake": "60s", "error-rate": "2%"}


def memory(annotations: dict[str, str], **run: object) -> tuple[Paper, Memory]:
    paper = Paper(annotations=annotations)
    found = begun(paper)
    return paper, replace(found, run=replace(found.run, **run))  # type: ignore[arg-type]


def proven(promotion: Promotion, annotations: dict[str, str]) -> list[bool]:
    """For each rung before the Deployment may roll whether it asks for the proof."""
    paper, found = memory(annotations, promotion=promotion)
    situation = paper.situation(found)
    return [
        trial.gate(situation, replace(found.run, step=index)).proven
        for index in range(rungs.final(situation, found.run))
    ]


@pytest.mark.parametrize("annotations", [AUTO, {"policy": "standard"}, {"policy": "cautious"}])
def test_the_last_rung_before_everything_asks_for_proof_and_no_other(
    annotations: dict[str, str],
) -> None:
    for promotion in Promotion:
        found = proven(promotion, annotations)
        assert found == [False] * (len(found) - 1) + [True]


def test_the_budget_is_about_the_next_rung_and_ends_with_the_ladder() -> None:
    paper, found = memory(AUTO)
    situation = paper.situation(found)
    gates = [trial.gate(situation, replace(found.run, step=index)) for index in range(4)]
    assert [gate.next_share for gate in gates] == [0.10, 0.50, 0.80, 1.0]
    assert [gate.budget for gate in gates] == [100.0, 100.0, 100.0, math.inf]
    assert gates[2].next_seconds == 60
    assert gates[0].dwell_seconds >= 10


def test_a_native_roll_costs_as_long_as_it_bakes() -> None:
    paper, found = memory({**AUTO, "bake": "300s"}, promotion=Promotion.ROLL, step=2)
    gate = trial.gate(paper.situation(found), found.run)
    assert (gate.next_share, gate.next_seconds, gate.proven) == (1.0, 300, True)


def test_caps_shorten_the_automatic_ladder_and_leave_its_budget() -> None:
    paper, found = memory(AUTO)
    situation = replace(paper.situation(found), ceilings=Ceilings(cluster_bp=500))
    assert [step.weight_bp for step in rungs.ladder(situation, found.run)] == [100, 500]
    gate = trial.gate(situation, replace(found.run, step=1))
    assert (gate.next_share, gate.budget) == (0.80, 100.0)


def test_the_margin_is_half_of_the_limit_and_a_step_that_slipped_is_judged_more_strictly() -> None:
    paper, found = memory(AUTO)
    first = trial.settings(paper.situation(found), found.run)
    assert (first.safe_margin, first.beta) == (0.01, trial.BETA * 15 / 16)
    paper, found = memory({**AUTO, "error-rate": "0.1%"}, slips=2)
    later = trial.settings(paper.situation(found), found.run)
    assert (later.safe_margin, later.beta) == (trial.LEAST_MARGIN, trial.BETA / 64)


def test_however_often_a_step_slips_all_its_chances_to_be_wrong_come_to_beta() -> None:
    def beta(slips: int) -> float:
        paper, found = memory(AUTO, slips=slips)
        return trial.settings(paper.situation(found), found.run).beta

    spent = [sum(beta(slips) for slips in range(most)) for most in (1, 2, 40)]
    assert spent == sorted(spent)
    assert 0.9 * trial.BETA < spent[0] < spent[-1] <= trial.BETA
    assert spent[-1] == pytest.approx(trial.BETA)


def test_a_run_is_judged_by_what_its_document_says_of_the_past() -> None:
    known = Calibration(phi=4.5, cap_scrapes=3, known=True, volume=50.0, rate=0.01)
    paper, found = memory(AUTO, calibration=known.to_json())
    again = recalled(encode(found.run), 0.0)
    settings = trial.settings(paper.situation(again), again.run)
    assert (settings.dispersion, settings.cap_scrapes, settings.past_rate) == (4.5, 3, 0.01)


def written(phase: Phase, evidence: dict[str, object]) -> str:
    run: Run = begun(Paper()).run
    return encode(replace(run, phase=phase, evidence=evidence))


def test_evidence_that_cannot_be_read_matters_while_it_is_needed_and_not_afterwards() -> None:
    strange: dict[str, object] = {"v": 1}
    for phase in (Phase.HELD, Phase.ENDED):
        assert recalled(written(phase, strange), 0.0).evidence is None
    with pytest.raises(ValueError, match="version"):
        recalled(written(Phase.JUDGING, strange), 0.0)


@pytest.mark.parametrize("doubt", ["stable is no better", ""])
def test_a_run_begins_with_a_warning_where_stable_would_be_rolled_back_itself(doubt: str) -> None:
    paper = Paper()
    memory = begun(paper)
    known = Calibration(known=True, doubt=doubt)
    told: dict[str, str] = {}
    for _ in range(20):
        decision = machine.step(replace(paper.situation(memory), calibration=known), memory)
        told |= {notice.reason: notice.message for notice in decision.notices if notice.warning}
        for effect in decision.effects:
            paper.apply(effect)
        memory = decision.memory
        if any(notice.reason == "RunStarted" for notice in decision.notices):
            break
    assert memory.run.calibration == known.to_json()
    assert told == ({"PastInDoubt": doubt} if doubt else {})


def test_a_calibration_that_cannot_be_read_is_found_before_a_tick_needs_it() -> None:
    run = replace(begun(Paper()).run, calibration={"phi": "many"})
    recalled(encode(replace(run, phase=Phase.HELD)), 0.0)
    with pytest.raises(ValueError, match="many"):
        recalled(encode(replace(run, phase=Phase.PREPARING)), 0.0)


def test_pods_that_start_are_cold_at_once_and_for_a_minute_however_short_a_step_is() -> None:
    paper, found = memory({"policy": "standard"})
    situation = paper.situation(found)
    fresh = start(trial.settings(situation, found.run))
    watched = Memory(run=found.run, moments=Moments(entered=0.0), evidence=fresh)
    warm = trial.warming(situation, watched).evidence
    assert warm is not None
    assert warm.warm_until == situation.clock + 60
    paper, found = memory({"policy": "fast", "steps": "5@20s"})
    quick = trial.warming(paper.situation(found), replace(watched, run=found.run)).evidence
    assert quick is not None
    assert quick.warm_until == paper.scraped + 60


@pytest.mark.parametrize("phase", [Phase.COMMITTING, Phase.ROLLING, Phase.BAKING])
def test_the_limit_stands_alone_as_soon_as_the_canary_has_all_requests(phase: Phase) -> None:
    """Stable's counters are there yet, and say that nobody calls it any more."""
    paper, found = memory(AUTO, step=2)
    situation = paper.situation(found)
    chosen = trial.settings(situation, found.run)
    opened = replace(found, evidence=weight_changed(start(chosen), 1000.0))

    def served(memory: Memory, begins: int, errors: int, stable: int) -> Memory:
        intervals = tuple(
            Interval(
                at=begins + 5.0 * number,
                seconds=5.0,
                canary=Tally(requests=500, errors=errors),
                stable=Tally(requests=stable),
            )
            for number in range(1, 7)
        )
        return trial.fed(replace(situation, intervals=intervals), memory)

    before = served(opened.with_run(phase=Phase.JUDGING), 1000, 1, 25)
    after = served(before.with_run(phase=phase), 1030, 100, 0)
    assert before.evidence is not None
    assert before.evidence.trip is None
    assert after.evidence is not None
    assert after.evidence.trip is not None
    assert after.evidence.trip.check == "error limit"


def durable(found: Memory) -> Evidence | None:
    """What a restart would find."""
    return recalled(encode(found.run), 0.0).evidence


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase in FOLLOWED])
def test_whatever_phase_of_the_trial_begins_its_evidence_is_durable(phase: Phase) -> None:
    """The window that opens with it above all: else an older one would speak for the version."""
    paper, found = memory(AUTO)
    fresh = start(trial.settings(paper.situation(found), found.run))
    leading = [
        (before, event)
        for before, events in TRANSITIONS.items()
        for event, after in events.items()
        if after is phase
    ]
    assert leading
    for before, event in leading:
        opened = weight_changed(fresh, 1000.0)
        at_it = replace(found, run=replace(found.run, phase=before), evidence=opened)
        assert durable(at_it.moved(event, 5.0)) == opened


def interval(at: float) -> Interval:
    return Interval(at=at, seconds=5.0, canary=Tally(requests=10), stable=Tally(requests=90))


def test_a_checkpoint_is_due_at_the_first_scrape_and_then_after_half_a_minute() -> None:
    """The first one is where a tail begins at."""
    paper, found = memory(AUTO, phase=Phase.RAISING)
    situation = paper.situation(found)
    found = trial.begun(situation, found).moved(Event.IN_FORCE, situation.now)
    for number, kept in ((1, 1), (2, 1), (6, 1), (7, 7), (8, 7)):
        seconds = 5.0 * number
        scraped = (interval(1000.0 + seconds),)
        later = replace(situation, now=situation.now + seconds, intervals=scraped)
        found = trial.fed(later, found)
        evidence = durable(found)
        assert evidence is not None
        assert evidence.last_at == 1000.0 + 5.0 * kept


def test_that_pods_are_cold_is_durable_before_they_start() -> None:
    """And is written once, however often they are asked for."""
    paper, found = memory({"policy": "standard"})
    situation = paper.situation(found)
    found = replace(found, evidence=start(trial.settings(situation, found.run)))
    warm = trial.warming(situation, found)
    assert durable(warm) == warm.evidence
    again = trial.warming(replace(situation, clock=situation.clock + 2.0), warm)
    assert again.run is warm.run
    assert again.evidence != warm.evidence


def held(run: dict[str, object], **world: object) -> str:
    """The code by which a raise is refused in a run whose evidence is as fresh as can be."""
    paper, found = memory(AUTO, **run)
    known: dict[str, Any] = {"clock": 5000.0, "scraped_at": 4999.0, **world}
    situation = replace(paper.situation(found), **known)
    seen = structs.replace(start(trial.settings(situation, found.run)), canary_at=4999.0)
    refusal = trial.unfit(situation, replace(found, evidence=seen))
    return refusal.code if refusal else ""


FIRST = {"phase": Phase.RAISING}
LATER = {"phase": Phase.RAISING, "granted": 1, "step": 1, "weight_bp": 500}
AGAIN = {**LATER, "weight_bp": 0}


@pytest.mark.parametrize(
    ("run", "world", "code"),
    [
        pytest.param(FIRST, {"metrics_age": None, "clock": 0.0}, "", id="nobody was asked yet"),
        pytest.param(FIRST, {"metrics_age": 0.0, "clock": 0.0}, "MetricsStale", id="in vain"),
        pytest.param(FIRST, {"metrics_age": 16.0}, "MetricsStale", id="silent before the first"),
        pytest.param(FIRST, {"scraped_at": None}, "", id="nothing was ever scraped"),
        pytest.param(LATER, {}, "", id="fresh"),
        pytest.param(LATER, {"clock": 5014.0}, "", id="as old as may be"),
        pytest.param(LATER, {"clock": 5015.0}, "MetricsStale", id="too old"),
        pytest.param(LATER, {"clock": 5015.0, "scraped_at": 5014.0}, "MetricsStale", id="canary"),
        pytest.param(LATER, {"metrics_age": None, "clock": 0.0}, "MetricsStale", id="restarted"),
        pytest.param(AGAIN, {"clock": 5015.0, "scraped_at": 5014.0}, "", id="slipped"),
        pytest.param(AGAIN, {"clock": 5015.0}, "MetricsStale", id="slipped and silent"),
        pytest.param(AGAIN, {"scraped_at": None}, "MetricsStale", id="slipped, nothing scraped"),
        pytest.param({**LATER, "phase": Phase.ROLLING}, {"clock": 6000.0}, "", id="committed"),
        pytest.param({**LATER, "recovery": True}, {"clock": 6000.0}, "MetricsStale", id="recovery"),
        pytest.param(
            {**LATER, "recovery": True, "step": 4}, {"clock": 6000.0}, "", id="its commit"
        ),
    ],
)
def test_a_raise_stands_on_fresh_evidence(
    run: dict[str, object], world: dict[str, object], code: str
) -> None:
    assert held(run, **world) == code


@pytest.mark.parametrize(("age", "code"), [(1.0, ""), (16.0, "MetricsStale")])
def test_a_person_may_promote_what_nothing_was_ever_seen_of(age: float, code: str) -> None:
    """Without traffic; but not while the store is silent, which could hide any."""
    paper, found = memory(AUTO, **LATER)
    situation = replace(paper.situation(found), clock=5000.0, scraped_at=None, metrics_age=age)
    never = start(trial.settings(situation, found.run))
    refusal = trial.unfit(situation, replace(found, evidence=never))
    assert (refusal.code if refusal else "") == code


def test_a_raise_does_not_stand_on_evidence_on_which_nothing_would_pass() -> None:
    paper, found = memory(AUTO, **LATER)
    situation = replace(paper.situation(found), clock=5000.0, scraped_at=5000.0)
    chosen = trial.settings(situation, found.run)
    seen = structs.replace(start(chosen), canary_at=5000.0, level=chosen.log_doubt)
    refusal = trial.unfit(situation, replace(found, evidence=seen))
    assert refusal is not None
    assert refusal.code == "EvidenceAgainst"
