# SPDX-License-Identifier: Apache-2.0
"""A target without a run: adopted, watched, and never silently overtaken."""

from dataclasses import replace

import pytest

from controller.core.effects import Effect
from controller.core.lifecycle import rest
from controller.core.lifecycle.leftovers import GRACE_SECONDS
from controller.core.lifecycle.memory import Mark
from controller.core.observation import Pod
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


def test_a_change_under_an_owners_pause_is_held_and_begins_nothing() -> None:
    """Admission held it, so that the owner's later resume does not ship it unjudged."""
    paper = Paper(digest=NEW, paused=True)
    marked(paper)
    paper.annotations["hold"] = "user-paused"
    found = rest.look(paper.situation(), TARGET)
    assert (found.change, found.effects) == (None, ())
    paper.annotations["hold"] = "template"
    assert rest.look(paper.situation(), TARGET).change is not None


def test_the_stable_template_under_an_owners_pause_stays_paused() -> None:
    """Only our note goes: the pause is not ours."""
    paper = Paper(digest=OLD, paused=True)
    marked(paper)
    paper.annotations["hold"] = "user-paused"
    for effect in rest.look(paper.situation(), TARGET).effects:
        paper.apply(effect)
    assert paper.paused
    assert "hold" not in paper.annotations


def test_a_held_template_does_not_take_the_place_of_one_that_passed_us_by() -> None:
    """What rolled while nobody watched serves; the template after it is held and gets a run."""
    third = "d3"
    paper = Paper(digest=third, sets={OLD: 0, NEW: 4}, paused=True)
    marked(paper)
    paper.annotations["hold"] = "template"
    found = rest.look(paper.situation(), TARGET)
    assert [notice.reason for notice in found.notices] == ["RolledUngated"]
    for effect in found.effects:
        paper.apply(effect)
    assert paper.paused
    after = rest.look(paper.situation(), TARGET)
    assert after.change is not None
    assert after.change.digest == NEW


def test_a_person_may_let_a_change_pass_and_it_is_told_with_the_reason() -> None:
    """Unpaused with a reason while the controller was dead: adopted as it rolls, not held again."""
    paper = Paper(digest=NEW, sets={OLD: 3, NEW: 1})
    marked(paper)
    paper.annotations["override"] = "the controller is down"
    found = rest.look(paper.situation(), TARGET)
    assert found.change is None
    assert [notice.reason for notice in found.notices] == ["Overridden"]
    assert "the controller is down" in found.notices[0].message
    for effect in found.effects:
        paper.apply(effect)
    assert "override" not in paper.annotations
    assert paper.annotations["managed"].endswith(NEW)


def test_an_override_without_a_resume_lets_nothing_pass() -> None:
    """A reason alone is no act; the change is judged like any other."""
    paper = Paper(digest=NEW, paused=True)
    marked(paper)
    paper.annotations |= {"hold": "template", "override": "please"}
    assert rest.look(paper.situation(), TARGET).change is not None


def test_an_override_that_is_used_up_is_taken_off() -> None:
    """It would stand for a later change as well."""
    paper = Paper(digest=OLD)
    marked(paper)
    paper.annotations["override"] = "yesterday's reason"
    for effect in rest.look(paper.situation(), TARGET).effects:
        paper.apply(effect)
    assert "override" not in paper.annotations


def test_made_anew_without_any_mark_it_is_known_from_before() -> None:
    """`replace --force` leaves no mark: the one last seen tells that a change went past."""
    paper = Paper(digest=NEW, sets={NEW: 4}, uid="u2")
    known = Mark(uid="u1", hash=HASHES[OLD], digest=OLD)
    found = rest.look(paper.situation(), TARGET, known)
    assert [notice.reason for notice in found.notices] == ["RolledUngated"]
    same = Mark(uid="u1", hash=HASHES[NEW], digest=NEW)
    found = rest.look(paper.situation(), TARGET, same)
    assert [notice.reason for notice in found.notices] == ["Adopted"]


@pytest.mark.parametrize(
    ("hold", "maker"),
    [("template", "alice"), ("user-paused", "alice"), ("run x decides", "unknown")],
)
def test_a_stamp_is_good_for_the_change_that_admission_held(hold: str, maker: str) -> None:
    """An older stamp names somebody who has nothing to do with this change."""
    paper = Paper(digest=NEW, paused=True)
    paper.annotations |= {"hold": hold, "maker": "alice"}
    deployment = paper.situation().view.deployment
    assert deployment is not None
    assert rest.maker(deployment) == maker


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
    paper.annotations |= {"status": "Ended", "epoch": "1", "maker": "alice"}
    del paper.annotations["policy"]
    found = rest.look(paper.situation(), TARGET)
    for effect in found.effects:
        paper.apply(effect)
    assert paper.annotations.keys().isdisjoint({"managed", "status", "hold", "epoch", "maker"})
    assert [notice.reason for notice in found.notices] == ["Released"]


def test_who_made_a_change_makes_no_target() -> None:
    """A Deployment with that mark alone is not ours to write."""
    paper = Paper(digest=OLD)
    paper.annotations = {"maker": "alice"}
    found = rest.look(paper.situation(), TARGET)
    assert (found.effects, found.notices) == ((), ())


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


def test_pods_on_a_lost_node_are_waited_for_as_long_as_by_a_run_that_goes_back() -> None:
    """They are going and never gone; no Service leads to them, and the next change waits."""
    paper = _lost(PINNED, 500, paused=True)
    paper.stuck = 2
    since = None
    for _ in range(200):
        found = rest.look(paper.situation(), TARGET)
        for effect in found.effects:
            paper.apply(effect)
        if paper.canary_pods == 0:
            since = since or paper.now
        if not paper.canary:
            break
        assert paper.selector == PINNED
        paper.pass_time()
    assert since is not None
    assert not paper.canary, found.why
    assert GRACE_SECONDS - 2 <= paper.now - since <= GRACE_SECONDS + 5
    assert "LostRunTidied" in _tidied(paper)
    assert not paper.service_original
    assert "run" not in paper.annotations


def test_pods_of_a_lost_run_that_are_not_going_are_waited_for() -> None:
    """A Service without its pin would lead to them."""
    paper = _lost(PINNED, 0, paused=True)
    paper.canary_pods, paper.weights, paper.route_original = 0, {"checkout": None}, False
    alive = Pod(name="canary-0", uid="p0", phase="Running", ready=True)
    for _ in range(120):
        situation = paper.situation()
        view = replace(situation.view, pods=(alive,))
        for effect in rest.look(replace(situation, view=view), TARGET).effects:
            paper.apply(effect)
        paper.pass_time()
    assert paper.canary
    assert paper.selector == PINNED


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
