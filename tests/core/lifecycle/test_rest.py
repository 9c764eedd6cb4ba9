# SPDX-License-Identifier: Apache-2.0
"""A target without a run: adopted, watched, and never silently overtaken."""

import pytest

from controller.core.effects import Effect
from controller.core.lifecycle import rest
from controller.core.lifecycle.memory import Mark
from tests.core.lifecycle.paper import HASHES, NEW, OLD, TARGET, Paper


def marked(paper: Paper, digest: str = OLD, uid: str = "u1") -> None:
    """The Deployment carries our mark for a stable template."""
    mark = Mark(uid=uid, hash=HASHES[digest], digest=digest)
    paper.annotations["managed"] = mark.text()


def test_first_sight_adopts_what_runs() -> None:
    """The creation rolled natively; from now on changes are held."""
    paper = Paper(digest=OLD)
    found = rest.look(paper.situation(), TARGET)
    for effect in found.effects:
        paper.apply(effect)
    assert paper.annotations["managed"].endswith(OLD)
    assert rest.look(paper.situation(), TARGET).effects == ()


def test_a_changed_template_asks_for_a_run() -> None:
    """While stable's ReplicaSet has pods the change can still be held."""
    paper = Paper(digest=NEW)
    marked(paper)
    found = rest.look(paper.situation(), TARGET)
    assert found.change is not None
    assert found.change.hash == HASHES[OLD]


def test_a_change_that_already_rolled_is_reported() -> None:
    """Never silently accepted."""
    paper = Paper(digest=NEW, sets={OLD: 0, NEW: 4})
    marked(paper)
    found = rest.look(paper.situation(), TARGET)
    assert [notice.reason for notice in found.notices] == ["RolledUngated"]
    assert found.notices[0].warning


def test_deleted_and_created_again_is_noticed_by_its_uid() -> None:
    """The mark of another uid says nothing of this one; another template is reported."""
    paper = Paper(digest=NEW, sets={NEW: 4})
    marked(paper, uid="u0")
    found = rest.look(paper.situation(), TARGET)
    assert [notice.reason for notice in found.notices] == ["RolledUngated"]


def test_a_pause_of_somebody_else_is_respected() -> None:
    """We never unpause what we did not pause, and begin nothing under it."""
    paper = Paper(digest=NEW, paused=True)
    marked(paper)
    found = rest.look(paper.situation(), TARGET)
    assert found.change is None
    assert found.effects == ()


def test_a_forgotten_hold_on_the_stable_template_is_lifted() -> None:
    """No Deployment stays paused at rest."""
    paper = Paper(digest=OLD, paused=True)
    marked(paper)
    paper.annotations["hold"] = "run"
    found = rest.look(paper.situation(), TARGET)
    for effect in found.effects:
        paper.apply(effect)
    assert not paper.paused


def test_without_a_policy_our_marks_go() -> None:
    """The team removed the annotation: it is a plain Deployment again, and that is reported."""
    paper = Paper(digest=OLD)
    marked(paper)
    del paper.annotations["policy"]
    found = rest.look(paper.situation(), TARGET)
    for effect in found.effects:
        paper.apply(effect)
    assert "managed" not in paper.annotations
    assert [notice.reason for notice in found.notices] == ["Released"]


def test_observe_holds_nothing() -> None:
    """The change rolls natively and is reported; the next one is noticed as well."""
    paper = Paper(digest=NEW, sets={OLD: 4, NEW: 0})
    marked(paper)
    paper.annotations["policy"] = "observe"
    for key in ("steps", "bake"):
        paper.annotations.pop(key)
    found = rest.look(paper.situation(), TARGET)
    assert found.change is None
    assert [notice.reason for notice in found.notices] == ["Observed"]
    for effect in found.effects:
        paper.apply(effect)
    assert not paper.paused
    assert paper.annotations["managed"].endswith(NEW)


def _tidied(paper: Paper) -> list[str]:
    """Notices until the target asks for nothing more; no run may begin before that."""
    told: list[str] = []
    for _ in range(40):
        found = rest.look(paper.situation(), TARGET)
        told.extend(notice.reason for notice in found.notices)
        for effect in found.effects:
            paper.apply(effect)
        if found.change is not None or (not found.effects and not found.why.startswith("waiting")):
            return told
        paper.pass_time()
    raise AssertionError(told)


def _lost(selector: tuple[tuple[str, str], ...], share_bp: int, *, paused: bool) -> Paper:
    """What a run leaves in mid-run: pin, weights, twins and hold."""
    paper = Paper(digest=NEW, paused=paused, canary=NEW, canary_uid="c1", canary_pods=4)
    marked(paper)
    if paused:
        paper.annotations["hold"] = "run"
    paper.canary_service = True
    paper.selector, paper.service_original = selector, True
    paper.weights = {"checkout": 10_000 - share_bp, "checkout-canary": share_bp}
    paper.route_original = True
    return paper


PINNED = (("app", "checkout"), ("pod-template-hash", HASHES[OLD]))
FOLLOWS = (("app", "checkout"), ("switchgear.dev/track", "canary"))


@pytest.mark.parametrize(
    ("selector", "share_bp", "paused"),
    [(PINNED, 500, True), (PINNED, 10_000, True), (FOLLOWS, 10_000, True), (PINNED, 500, False)],
)
def test_a_lost_run_is_tidied_away_and_somebody_serves_all_the_while(
    selector: tuple[tuple[str, str], ...], share_bp: int, *, paused: bool
) -> None:
    """Judging, Committing and Rolling without a run: routes, twins and pins go in that order."""
    paper = _lost(selector, share_bp, paused=paused)
    serving: list[set[str]] = []
    apply = paper.apply

    def watched(effect: Effect) -> None:
        apply(effect)
        serving.append(paper.serving())

    paper.apply = watched  # type: ignore[method-assign]
    told = _tidied(paper)
    assert "LostRunTidied" in told
    assert all(serving)
    assert paper.selector == (("app", "checkout"),)
    assert paper.weights == {"checkout": None}
    assert not paper.canary
    assert not paper.canary_service
    assert not paper.service_original
    assert "run" not in paper.annotations


def test_a_pin_on_pods_that_are_gone_is_undone_first() -> None:
    """Nobody serves behind the Service: that cannot wait for the routes."""
    paper = _lost((("app", "checkout"), ("pod-template-hash", "gone")), 500, paused=True)
    paper.sets = {OLD: 0}
    found = rest.look(paper.situation(), TARGET)
    for effect in found.effects:
        paper.apply(effect)
    assert paper.behind_service() == {NEW}


def test_a_route_with_a_canary_of_the_users_own_is_left_alone() -> None:
    """A Service called `<name>-canary` that is not ours is none of our business."""
    paper = Paper(digest=OLD)
    marked(paper)
    paper.weights = {"checkout": 9, "checkout-canary": 1}
    assert rest.look(paper.situation(), TARGET).effects == ()


def test_a_hold_of_an_earlier_deployment_is_released() -> None:
    """Restored from a backup, paused: without this it would never get a ReplicaSet."""
    paper = Paper(digest=OLD, paused=True, sets={}, uid="u2")
    marked(paper)
    paper.annotations["hold"] = "run"
    assert _tidied(paper)[0] == "HoldReleased"
    assert not paper.paused
    assert paper.annotations["managed"].startswith("u2/")
