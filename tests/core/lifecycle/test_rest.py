# SPDX-License-Identifier: Apache-2.0
"""A target without a run: adopted, watched, and never silently overtaken."""

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
