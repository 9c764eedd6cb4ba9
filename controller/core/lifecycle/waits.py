# SPDX-License-Identifier: Apache-2.0
"""How long a run stays in a phase: until a weight has been in force, and not for ever."""

from controller.core.lifecycle.memory import Ending, Memory
from controller.core.lifecycle.situation import Decision, Notice, Situation
from controller.core.lifecycle.table import Event


def settling(situation: Situation, memory: Memory, seconds: float) -> Decision | None:
    """Wait until what the routes show has been in force for `seconds`; None when it has."""
    since = memory.moments.asserted
    if since is None:
        return Decision(
            memory=memory.at(asserted=situation.now),
            why="waiting until the weight is in force",
            wait_seconds=seconds,
        )
    left = since + seconds - situation.now
    if left > 0:
        why = "waiting until the weight is in force"
        return Decision(memory=memory, why=why, wait_seconds=left)
    return None


def late(
    situation: Situation, memory: Memory, why: str, seconds: float, *, since: float | None = None
) -> Decision:
    """Wait in this phase, and end the run Inconclusive once the wait was too long.

    It is counted from the phase's begin, or from `since`.
    """
    waited = situation.now - (memory.moments.entered if since is None else since)
    if waited < seconds:
        return Decision(memory=memory, why=f"{why} ({waited:.0f} of {seconds:.0f} s)")
    reason = f"{why} after {seconds:.0f} s"
    after = memory.moved(Event.STOP, situation.now, ending=Ending.INCONCLUSIVE, reason=reason)
    return Decision(
        memory=after,
        why=reason,
        notices=(Notice(reason="Inconclusive", message=reason, warning=True),),
    )


def unless_late(situation: Situation, work: Decision, seconds: float) -> Decision:
    """Go on with the phase's work, unless it has lasted too long; a paused run is never late."""
    waiting = late(situation, work.memory, work.why, seconds)
    ends = waiting.memory.phase is not work.memory.phase
    return waiting if ends and not situation.paused else work
