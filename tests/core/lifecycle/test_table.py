# SPDX-License-Identifier: Apache-2.0
"""The table itself: complete, without traps, and drawn as it stands."""

from pathlib import Path

import pytest

from controller.core.errors import InvariantBroken
from controller.core.lifecycle import table
from controller.core.lifecycle.table import TRANSITIONS, Event, Phase

DOCUMENT = Path(__file__).parents[3] / "docs" / "lifecycle.md"


def test_every_phase_has_a_row() -> None:
    """A phase that is not in the table could never be left."""
    assert set(TRANSITIONS) == set(Phase)


def test_every_phase_has_a_way_to_the_end() -> None:
    """L1: no state without an exit."""
    reaches = {Phase.ENDED}
    while True:
        more = {phase for phase, exits in TRANSITIONS.items() if reaches & set(exits.values())}
        if more <= reaches:
            break
        reaches |= more
    assert reaches == set(Phase)


def test_every_phase_is_reached() -> None:
    """No row is dead."""
    reached = {Phase.HOLDING}
    while True:
        more = {after for phase in reached for after in TRANSITIONS[phase].values()}
        if more <= reached:
            break
        reached |= more
    assert reached == set(Phase)


def test_every_event_is_used() -> None:
    """An event that no row knows would be a second way of saying something."""
    used = {event for exits in TRANSITIONS.values() for event in exits}
    assert used == set(Event)


def test_an_unknown_transition_is_refused() -> None:
    """Nothing moves when the table has no row for it."""
    with pytest.raises(InvariantBroken, match="no transition from Ended by STOP"):
        table.advance(Phase.ENDED, Event.STOP)


def test_after_the_commit_stop_means_undo() -> None:
    """Weight 0 is never the first answer once stable pods may be gone."""
    assert table.advance(Phase.ROLLING, Event.STOP) is Phase.UNDOING
    assert table.advance(Phase.JUDGING, Event.STOP) is Phase.ROLLING_BACK


def test_the_diagram_in_the_docs_is_current() -> None:
    """Redraw with `python -m tests.core.lifecycle.test_table`."""
    assert table.diagram() in DOCUMENT.read_text()


def redraw() -> None:
    """Put today's diagram into the document."""
    text = DOCUMENT.read_text()
    before, rest = text.split("```mermaid\n", 1)
    _, after = rest.split("```", 1)
    DOCUMENT.write_text(f"{before}```mermaid\n{table.diagram()}```{after}")


if __name__ == "__main__":
    redraw()
