# SPDX-License-Identifier: Apache-2.0
"""Which pods may lead their own rollout: the trusted ones, and never a canary."""

from dataclasses import replace

import pytest

from controller.core import leadership
from controller.core.leadership import PROMOTED, Pod
from controller.core.lifecycle.memory import Mark, Run
from controller.core.lifecycle.table import RETURNING, Phase
from controller.core.observation import Deployment
from controller.core.values import TargetRef

STABLE = Pod(hash="old", track="")
NEW = Pod(hash="new", track="")
CANARY = Pod(hash="c1", track="canary")


def _deployment(mark: str | None = None, uid: str = "u1") -> Deployment:
    text = Mark(uid="u1", hash="old", digest="d").text() if mark is None else mark
    return Deployment(
        name="checkout",
        uid=uid,
        version="1",
        generation=1,
        observed_generation=1,
        replicas=4,
        paused=False,
        strategy="RollingUpdate",
        digest="e",
        selector=(),
        pod_labels=(),
        annotations={"managed": text} if text else {},
    )


def _run(phase: Phase, uid: str = "u1") -> Run:
    return Run(
        name="run-1",
        target=TargetRef("shop", "checkout"),
        uid=uid,
        phase=phase,
        stable_hash="old",
        stable_digest="d",
        digest="e",
    )


@pytest.mark.parametrize("phase", list(Phase))
def test_a_canary_leads_in_no_phase(phase: Phase) -> None:
    assert "never leads" in leadership.barred(CANARY, _deployment(), [_run(phase)])
    twin = replace(CANARY, hash="old")
    assert leadership.barred(twin, _deployment(), [_run(phase)])
    assert leadership.barred(twin, _deployment(""), [])


@pytest.mark.parametrize("phase", list(Phase))
def test_a_stable_pod_leads_in_every_phase(phase: Phase) -> None:
    assert leadership.barred(STABLE, _deployment(), [_run(phase)]) == ""
    assert leadership.barred(STABLE, _deployment(), []) == ""


@pytest.mark.parametrize("phase", list(Phase))
def test_a_pod_of_a_new_template_leads_from_the_commit_on(phase: Phase) -> None:
    """Its own run must have promoted it; that of an earlier Deployment counts for nothing."""
    found = leadership.barred(NEW, _deployment(), [_run(phase)])
    assert (found == "") is (phase in PROMOTED)
    assert leadership.barred(NEW, _deployment(), [_run(phase, uid="u0")])
    assert leadership.barred(NEW, _deployment(), []) != ""


def test_the_phases_are_those_after_the_commit() -> None:
    """All but the way back once the stable pods stand again."""
    before = {Phase.HOLDING, Phase.CHECKING, Phase.PREPARING, Phase.SCALING, Phase.RAISING}
    before |= {Phase.JUDGING, Phase.COMMITTING}
    assert not before & PROMOTED
    assert {Phase.UNDOING, Phase.ORPHANING} == RETURNING & PROMOTED


@pytest.mark.parametrize(
    "deployment",
    [_deployment(""), _deployment("no mark"), _deployment(uid="u2")],
    ids=["not adopted", "unreadable", "made anew"],
)
def test_before_there_is_a_trusted_template_any_pod_leads(deployment: Deployment) -> None:
    assert leadership.barred(NEW, deployment, []) == ""


def test_without_the_deployment_nobody_leads() -> None:
    assert leadership.barred(STABLE, None, []) != ""


def test_the_runs_are_asked_only_when_they_matter() -> None:
    assert leadership.trusted(STABLE, _deployment()) is True
    assert leadership.trusted(CANARY, _deployment()) is False
    assert leadership.trusted(NEW, _deployment()) is None
