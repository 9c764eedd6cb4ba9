# SPDX-License-Identifier: Apache-2.0
"""Whole runs on paper: their ends, their promises at every write, and every interrupted prefix."""

from collections.abc import Callable

import pytest

from controller.core import invariants
from controller.core.effects import RISKIER
from controller.core.lifecycle import machine
from controller.core.lifecycle import memory as memories
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.situation import Request, Verb
from controller.core.lifecycle.table import COMMITTED, Phase
from tests.core.lifecycle.paper import LABELS, NEW, NEWER, OLD, Paper, begun

Script = Callable[[Paper, Memory], None]
MOST_TICKS = 900


def nothing(_paper: Paper, _memory: Memory) -> None:
    """No script."""


def promises(paper: Paper, memory: Memory) -> None:
    """What must be true after every single write."""
    if memory.phase not in COMMITTED | {Phase.RESTORING} and paper.exists:
        assert paper.sets.get(OLD, 0) > 0 or memory.run.outcome == "promoted"
    if paper.share() > 0:
        assert paper.canary_pods > 0
    if paper.share() < 10_000 and paper.exists:
        assert paper.behind_service(), "the Service selects no pod"
    if paper.canary_pods > 0 and memory.phase is not Phase.RESTORING and paper.exists:
        assert paper.selector != LABELS, "canary pods under an unpinned Service"


def drive(
    paper: Paper,
    script: Script = nothing,
    *,
    crash_at: int | None = None,
    promises: Script = promises,
) -> Memory:
    """Tick until the run rests; with `crash_at` the process dies before that effect."""
    memory = begun(paper)
    count = 0
    for _ in range(MOST_TICKS):
        script(paper, memory)
        situation = paper.situation(memory)
        decision = machine.step(situation, memory)
        assert invariants.broken(situation, memory, decision) == ()
        durable = memories.encode(decision.memory.run)
        crashed = False
        for effect in decision.effects:
            if count == crash_at:
                crashed = True
                count += 1
                break
            count += 1
            paper.apply(effect)
            promises(paper, decision.memory)
        memory = decision.memory
        if crashed:
            memory = memories.recalled(durable, paper.now)
            continue
        if memory.phase in {Phase.HELD, Phase.ENDED} and not decision.effects:
            return memory
        paper.pass_time()
    pytest.fail(f"the run does not end: {memory.phase} {decision.why}")


def at_rest(paper: Paper) -> None:
    """Nothing of ours is left in the user's objects."""
    assert paper.selector == LABELS
    assert not paper.service_original
    assert paper.weights == {"checkout": None}
    assert not paper.route_original
    assert paper.canary == ""
    assert not paper.canary_service


def bad(paper: Paper, _memory: Memory) -> None:
    """The new version fails half of its requests."""
    paper.error_rate = 0.5


def test_a_healthy_version_is_promoted() -> None:
    """The whole road: everything is the new version, and nothing of ours is left."""
    paper = Paper()
    memory = drive(paper)
    assert memory.run.outcome == "promoted"
    at_rest(paper)
    assert not paper.paused
    assert paper.sets == {OLD: 0, NEW: 4}


def test_a_bad_version_is_held_on_stable() -> None:
    """Rolled back, quarantined, breaker open, stable pods untouched."""
    paper = Paper()
    memory = drive(paper, bad)
    assert memory.phase is Phase.HELD
    assert memory.run.outcome == "rolled-back"
    assert memory.run.tripped
    assert memory.run.quarantined
    at_rest(paper)
    assert paper.paused
    assert paper.sets == {OLD: 4}


def test_weight_never_rises_after_the_failure_was_seen() -> None:
    """From the first bad evaluation on there is no effect toward risk."""
    paper = Paper()
    drive(paper, bad)
    zero = paper.writes.index("ZeroWeight")
    risky = {kind.__name__ for kind in RISKIER}
    assert not risky & set(paper.writes[zero:])


def test_without_traffic_it_ends_inconclusive() -> None:
    """No data is neither a pass nor a failure."""
    paper = Paper(requests_per_second=0)
    paper.annotations["deadline"] = "30s"
    memory = drive(paper)
    assert memory.run.outcome == "inconclusive"
    assert not memory.run.quarantined
    assert not memory.run.tripped
    assert "100" in memory.run.reason or "50" in memory.run.reason


PHASES = (
    Phase.PREPARING,
    Phase.SCALING,
    Phase.RAISING,
    Phase.JUDGING,
    Phase.COMMITTING,
    Phase.ROLLING,
    Phase.HANDING_BACK,
)


@pytest.mark.parametrize("phase", PHASES)
def test_kill_in_every_phase_ends_on_stable(phase: Phase) -> None:
    """Killed wherever it stands: stable serves everything again."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            paper.kills = ("all",)

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "killed"
    assert memory.phase is Phase.HELD
    at_rest(paper)
    assert paper.sets.get(OLD) == 4
    assert paper.serving() == {OLD}


@pytest.mark.parametrize("phase", PHASES)
def test_a_newer_template_in_every_phase_begins_from_stable(phase: Phase) -> None:
    """Superseded: the run goes back completely, the Deployment stays paused for the next run."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            paper.digest = NEWER

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "superseded"
    assert memory.phase is Phase.ENDED
    at_rest(paper)
    assert paper.paused
    assert paper.serving() == {OLD}


@pytest.mark.parametrize("phase", PHASES)
def test_the_stable_template_in_every_phase_cancels(phase: Phase) -> None:
    """Cancelled: unpaused on stable, nothing of ours left."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            paper.digest = OLD

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "cancelled"
    at_rest(paper)
    assert not paper.paused
    assert paper.serving() == {OLD}


@pytest.mark.parametrize("phase", PHASES)
def test_an_abort_in_every_phase(phase: Phase) -> None:
    """Aborted by the annotation: held, and not called bad."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            paper.annotations["abort"] = "run-1"

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "aborted"
    assert not memory.run.quarantined
    at_rest(paper)


@pytest.mark.parametrize("phase", PHASES)
def test_deletion_in_every_phase_leaves_nothing(phase: Phase) -> None:
    """The Deployment is deleted: unpinned and restored, no canary left."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            paper.exists = False
            paper.sets = {}

    paper = Paper()
    memory = drive(paper, script)
    assert memory.phase is Phase.ENDED
    assert memory.run.outcome == "gone"
    at_rest(paper)


@pytest.mark.parametrize("phase", PHASES)
def test_a_route_reset_in_every_phase(phase: Phase) -> None:
    """Somebody's apply puts the route back once: the run goes on and still ends well."""
    done: list[int] = []

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase and not done:
            done.append(1)
            paper.weights, paper.route_original = {"checkout": None}, False

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "promoted"
    at_rest(paper)


@pytest.mark.parametrize("story", ["good", "bad", "undo"])
def test_every_interrupted_prefix_ends_the_same(story: str) -> None:
    """The process dies before each effect in turn and starts again: same world, nothing twice."""

    def script(paper: Paper, memory: Memory) -> None:
        if story == "bad":
            paper.error_rate = 0.5
        if story == "undo" and memory.phase is Phase.HANDING_BACK:
            paper.kills = ("all",)

    calm = Paper()
    expected = drive(calm, script)
    for crash in range(len(calm.writes)):
        paper = Paper()
        memory = drive(paper, script, crash_at=crash)
        assert memory.run.outcome == expected.run.outcome
        assert (paper.sets, paper.selector, paper.weights, paper.canary, paper.paused) == (
            calm.sets,
            calm.selector,
            calm.weights,
            calm.canary,
            calm.paused,
        )
        assert paper.made == calm.made


def test_retry_leaves_the_hold() -> None:
    """A person asks for another try: the held run ends and its latches are lifted."""
    paper = Paper()
    memory = drive(paper, bad)
    paper.requests = (Request(id="1", verb=Verb.RETRY, actor="ada"),)
    decision = machine.step(paper.situation(memory), memory)
    assert decision.memory.phase is Phase.ENDED
    assert not decision.memory.run.quarantined
    assert decision.memory.run.released


def test_somebody_resumes_the_held_deployment() -> None:
    """It is paused again and the failed template gets no pod."""
    paper = Paper()
    memory = drive(paper, bad)
    paper.paused = False
    decision = machine.step(paper.situation(memory), memory)
    for effect in decision.effects:
        paper.apply(effect)
    assert paper.paused


def test_silence_of_the_metrics_store_takes_exposure_away() -> None:
    """Weights freeze at first, and after the deadline go to 0."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING:
            paper.metrics_age = 1_000.0

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "inconclusive"
    at_rest(paper)


def test_another_writer_above_the_cap_is_answered() -> None:
    """S1: weight in force above the rung goes back to the rung at once."""
    seen: list[int] = []

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING and not seen:
            seen.append(1)
            paper.weights = {"checkout": 1000, "checkout-canary": 9000}
        elif seen == [1]:
            seen.append(paper.share())

    paper = Paper()
    drive(paper, script)
    assert seen[1] <= 500


def test_a_crashing_canary_trips_without_statistics() -> None:
    """Pod state is enough."""

    def script(paper: Paper, _memory: Memory) -> None:
        paper.canary_healthy = False

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "rolled-back"
    assert "crash-looping" in memory.run.reason
    at_rest(paper)


@pytest.mark.parametrize("phase", [Phase.JUDGING, Phase.ROLLING])
def test_the_canary_follows_stable_up_and_never_down_under_traffic(phase: Phase) -> None:
    """The Deployment is doubled and halved again by an autoscaler: the canary grows at once."""
    seen: list[tuple[Phase, int]] = []

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase and not seen and paper.share() >= 2500:
            paper.replicas = 8
            seen.append((memory.phase, paper.canary_pods))
        elif len(seen) == 1 and paper.canary_pods > seen[0][1]:
            paper.replicas = 4
            seen.append((memory.phase, paper.canary_pods))
        elif memory.phase is phase and len(seen) == 2:
            assert paper.canary_pods >= seen[1][1]

    paper = Paper()
    memory = drive(paper, script)
    (_, before), (after_phase, after) = seen
    assert after_phase is phase, "in the same phase, not with the next step"
    assert after == 2 * before
    assert memory.run.outcome == "promoted"
    at_rest(paper)


@pytest.mark.parametrize("phase", [Phase.ROLLING, Phase.HANDING_BACK])
def test_a_canary_that_carries_everything_and_lost_its_owner_gets_it_back(phase: Phase) -> None:
    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase and "OwnCanary" not in paper.writes:
            paper.canary_owner = ""

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "promoted"
    assert paper.writes.count("DeleteCanary") == 1, "the one of the end, with no pods left"
    at_rest(paper)


@pytest.mark.parametrize(
    ("phase", "outcome"), [(Phase.ROLLING, "inconclusive"), (Phase.HANDING_BACK, "promoted")]
)
def test_a_canary_that_got_another_template_carries_on_until_others_can(
    phase: Phase, outcome: str
) -> None:
    """Nobody has judged that one. Before the new pods stand it is back to stable."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            paper.canary = NEWER

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == outcome
    assert paper.writes.count("DeleteCanary") == 1
    at_rest(paper)


def test_a_canary_that_slipped_ends_when_weight_0_is_in_force() -> None:
    """For a moment after the write gateways still send there; requests under way end as well."""
    at: dict[str, float] = {}

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING and not at:
            paper.canary_owner = ""
        for name in ("ZeroWeight", "DeleteCanary"):
            if name in paper.writes:
                at.setdefault(name, paper.now)

    paper = Paper()
    memory = drive(paper, script)
    assert memory.run.outcome == "promoted"
    assert memory.run.slips == 1
    assert at["DeleteCanary"] - at["ZeroWeight"] >= 2.0
    at_rest(paper)
