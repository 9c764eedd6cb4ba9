# SPDX-License-Identifier: Apache-2.0
"""Without a route: exposure by the number of pods, the native roll, and its undoing."""

import pytest

from controller.core.effects import RISKIER
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.table import ARMED, Phase
from controller.core.policy import caps
from controller.core.policy.model import Promotion, Traffic
from tests.core.lifecycle.paper import LABELS, NEW, NEWER, OLD, POLICY, Paper
from tests.core.lifecycle.test_machine import drive, nothing

PHASES = (
    Phase.PREPARING,
    Phase.SCALING,
    Phase.RAISING,
    Phase.JUDGING,
    Phase.ROLLING_OUT,
    Phase.BAKING,
)
STEPS = {0: 2000, 1: 5000}


def paper(**changes: object) -> Paper:
    """Four pods behind a Service without a route: 1 beside them is 20 %, 4 are 50 %."""
    annotations = {**POLICY, "steps": "20@10s,50@10s"}
    made = Paper(routed=False, gradual=True, annotations=annotations)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def promises(paper: Paper, memory: Memory) -> None:
    """After every write: the step's share at most, and as many pods as a native roll leaves."""
    rolled = {*ARMED, Phase.ORPHANING, Phase.RESTORING}
    if memory.phase not in rolled and memory.run.outcome == "" and memory.run.orphans == ():
        assert paper.exposure() <= STEPS.get(memory.run.granted, 10_000)
    if paper.exists and paper.replicas:
        assert sum(paper.pods_behind().values()) >= min(paper.replicas, 3), "too few pods"


def at_rest(paper: Paper) -> None:
    """Nothing of ours is left, and nobody's pods neither."""
    assert paper.selector == LABELS
    assert not paper.service_original
    assert paper.canary == ""
    assert not any(paper.orphans.values())


def bad_in(phase: Phase) -> object:
    """A version that fails half of its requests from that phase on."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is phase:
            paper.error_rate = 0.5

    return script


def test_a_good_version_rolls_natively_and_bakes() -> None:
    """Steps by whole pods, then the roll; the run says how it went about it."""
    made = paper()
    seen: set[int] = set()

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING:
            seen.add(paper.exposure())

    memory = drive(made, script, promises=promises)
    assert memory.run.outcome == "promoted"
    assert (memory.run.traffic, memory.run.promotion) == (Traffic.REPLICAS, Promotion.ROLL)
    assert seen == {2000, 5000}
    assert made.sets == {OLD: 0, NEW: 4}
    assert not made.paused
    at_rest(made)


@pytest.mark.parametrize("phase", [Phase.JUDGING, Phase.ROLLING_OUT, Phase.BAKING])
def test_a_version_that_turns_bad_is_undone(phase: Phase) -> None:
    """Held on stable pods in full number, quarantined, and nothing rises after the trip."""
    made = paper()
    memory = drive(made, bad_in(phase), promises=promises)  # type: ignore[arg-type]
    assert memory.phase is Phase.HELD
    assert memory.run.outcome == "rolled-back"
    assert memory.run.tripped
    assert made.sets == {OLD: 4}
    assert made.serving() == {OLD}
    at_rest(made)
    risky = {kind.__name__ for kind in RISKIER}
    trip = max(at for at, name in enumerate(made.writes) if name in risky)
    assert "DeletePods" not in made.writes[:trip]
    assert ("OrphanReplicaSet" in made.writes[trip:]) is (phase is not Phase.JUDGING)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", ["kill", "newer", "abort", "gone"])
def test_stopped_in_every_phase(phase: Phase, how: str) -> None:
    """Whatever stops it: stable serves, nothing of ours is left."""

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is not phase:
            return
        if how == "kill":
            paper.kills = ("all",)
        elif how == "newer":
            paper.digest = NEWER
        elif how == "abort":
            paper.annotations["abort"] = "run-1"
        else:
            paper.exists, paper.sets = False, {}

    made = paper()
    memory = drive(made, script, promises=promises)
    at_rest(made)
    expected = {"kill": "killed", "newer": "superseded", "abort": "aborted", "gone": "gone"}
    assert memory.run.outcome == expected[how]
    if how != "gone":
        assert made.sets.get(OLD) == 4
        assert made.paused


@pytest.mark.parametrize("phase", [None, Phase.JUDGING, Phase.ROLLING_OUT, Phase.BAKING])
def test_every_interrupted_prefix_ends_the_same(phase: Phase | None) -> None:
    """The process dies before each effect in turn: same world, nothing twice."""
    script = bad_in(phase) if phase else nothing
    calm = paper()
    expected = drive(calm, script, promises=promises)  # type: ignore[arg-type]
    for crash in range(len(calm.writes)):
        made = paper()
        memory = drive(made, script, crash_at=crash, promises=promises)  # type: ignore[arg-type]
        assert memory.run.outcome == expected.run.outcome
        assert (made.sets, made.selector, made.canary, made.paused, made.made) == (
            calm.sets,
            calm.selector,
            calm.canary,
            calm.paused,
            calm.made,
        )
        at_rest(made)


def test_a_deployment_that_is_scaled_down_keeps_the_share() -> None:
    """S1: fewer stable pods mean fewer canary pods, and too few of them end the run."""
    made = paper(replicas=8, sets={OLD: 8})
    seen: list[int] = []

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.JUDGING and memory.run.step == 1:
            paper.replicas = 2
        if memory.phase is Phase.JUDGING and paper.replicas == 2:
            seen.append(paper.canary_pods)

    memory = drive(made, script, promises=nothing)
    assert 8 in seen
    assert memory.run.outcome == "promoted"
    assert seen[-1] == 2
    at_rest(made)


def test_a_route_with_roll_keeps_its_ladder_and_rolls_under_traffic() -> None:
    """`promotion: roll` beside a route: weights up to the last step, no second set of pods."""
    made = paper(routed=True, annotations={**POLICY, "promotion": "roll"})
    most: list[int] = []

    def script(paper: Paper, _memory: Memory) -> None:
        most.append(paper.canary_pods)

    memory = drive(made, script, promises=nothing)
    assert memory.run.outcome == "promoted"
    assert memory.run.traffic is Traffic.GATEWAY
    assert max(most) == 1
    assert made.weights == {"checkout": None}
    assert made.sets == {OLD: 0, NEW: 4}
    at_rest(made)


def test_a_route_with_roll_that_turns_bad_in_the_bake() -> None:
    """The gateway cannot tell the pods apart any more: the absolute limit speaks."""
    made = paper(routed=True, annotations={**POLICY, "promotion": "roll"})

    def script(paper: Paper, memory: Memory) -> None:
        if memory.phase is Phase.BAKING:
            paper.error_rate = 1.0

    memory = drive(made, script, promises=nothing)
    assert memory.run.outcome == "rolled-back"
    assert made.sets == {OLD: 4}
    assert made.weights == {"checkout": None}
    at_rest(made)


@pytest.mark.parametrize("pods", [1, 2, 4, 8, 19, 40, 333])
@pytest.mark.parametrize("weight_bp", [100, 500, 2500, 5000, 9000])
def test_whole_pods_never_exceed_the_weight(pods: int, weight_bp: int) -> None:
    """Rounded down; one more would be above it."""
    most = caps.most_beside(pods, weight_bp)
    assert most == 0 or caps.share_beside(most, pods) <= weight_bp
    assert caps.share_beside(most + 1, pods) > weight_bp
    assert (most > 0) is (pods >= caps.pods_needed(weight_bp))
