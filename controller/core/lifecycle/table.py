# SPDX-License-Identifier: Apache-2.0
"""The state machine of a run. Rule: whatever changes a `Phase` stands in this file.

A run is a road with two halves, and the commit lies between them.

*Before the commit* the stable pods all stand and serve what the weight leaves them; the way back is
one route write (`STOP` leads to ROLLING_BACK). The ladder is the loop SCALING, RAISING, JUDGING:
capacity first, then weight, then evidence that is younger than the weight. The bake is its last
rung. COMMITTING moves the last requests and the direct clients over to the canary pods.

*After the commit* (from ROLLING on) the user's own Deployment is replacing its stable pods, with no
traffic on it. Weight 0 would now send requests to pods that are going away, so the way back is
UNDOING: stop the roll, let the stable pods come back, and only then take the weight away.

Once the user's own pods serve everything (RESTORING) the new version is the stable one; what is
left is tidying, which nothing interrupts but the loss of the Deployment.

`promotion: roll` has no commit: after the last step the Deployment rolls natively under traffic
(ROLLING_OUT) and serves alone for a while (BAKING), both with the breaker armed. The way back is
ORPHANING: the rolled pods go on serving while stable comes back beside them.

A run that went back ends in HELD: the Deployment stays paused on its stable pods, because the
template in its spec is the one that failed. Only a new template, the stable template or a person
leads out of it. `ENDED` has no way out, and every phase has a way to it.

Each phase is level-triggered: its rule looks at the world and asks for what is still missing, so
a crash between any two writes is continued by the same rule that made them.
"""

import enum
from typing import Final

from controller.core.errors import InvariantBroken


class Phase(enum.Enum):
    """Where a run stands."""

    HOLDING = "Holding"
    """The change was seen; the native roll is being stopped."""
    CHECKING = "Checking"
    """Policy, guards and preflight are asked; nothing of the user's is touched."""
    PREPARING = "Preparing"
    """Services are pinned to stable, our objects made, the canary added at weight 0."""
    SCALING = "Scaling"
    """Canary pods for the next weight are started and become ready."""
    RAISING = "Raising"
    """The weight is written, read back and waited for until it is in force."""
    JUDGING = "Judging"
    """Evidence is gathered at this weight."""
    COMMITTING = "Committing"
    """Everything goes to the canary pods, the direct clients too."""
    ROLLING = "Rolling"
    """The user's Deployment rolls natively with no traffic on it."""
    HANDING_BACK = "HandingBack"
    """Traffic returns to the user's own pods, now of the new version."""
    RESTORING = "Restoring"
    """Our part of routes and Services is undone, our objects deleted; the run has succeeded."""
    ROLLING_OUT = "RollingOut"
    """The user's Deployment rolls natively under traffic; the breaker is armed."""
    BAKING = "Baking"
    """The rolled pods serve everything; the breaker is armed."""
    ORPHANING = "Orphaning"
    """The roll is undone: its pods, now nobody's, serve until stable is back in number."""
    UNDOING = "Undoing"
    """After the commit: the roll is stopped and the stable pods come back before weight moves."""
    ROLLING_BACK = "RollingBack"
    """Weight 0 is written and waited for, the canary pods go."""
    CLEANING = "Cleaning"
    """Our part of routes and Services is undone, our objects deleted; the run has failed."""
    HELD = "Held"
    """The Deployment stays paused on its stable pods."""
    RESUMING = "Resuming"
    """The stable template is back: the Deployment is unpaused."""
    ENDED = "Ended"
    """Nothing is left to do."""


class Event(enum.Enum):
    """What a rule found to be so; the only things that move a run."""

    FROZEN = "only stable pods are left"
    CLEARED = "every check passed"
    REFUSED = "a check or guard said no"
    PREPARED = "routes accept the canary at weight 0"
    READY = "canary pods are ready"
    IN_FORCE = "the weight is in force"
    PASSED = "the step's evidence passed"
    PROMOTED = "the bake passed"
    LADDER_PASSED = "the last step passed; the Deployment may roll under traffic"
    BAKED = "the rolled pods passed the bake"
    COMMITTED = "all requests go to canary pods"
    ROLLED = "the Deployment is fully available"
    HANDED_BACK = "the Deployment's own pods serve everything"
    RESTORED = "nothing of ours is left"
    SLIPPED = "somebody else undid our part"
    STOP = "stop: failed, ended or overtaken"
    STABLE_BACK = "stable pods are back in number"
    ZERO = "weight 0 is in force and the canary pods are gone"
    CLEAN_HELD = "clean; the failed template stays held"
    CLEAN_RESUME = "clean; the stable template is back"
    CLEAN_ENDED = "clean; nothing to hold"
    LEFT = "overtaken by a new template, too late to hold, or released by a person"
    GONE = "the Deployment is gone"


_LADDER: Final = {Event.STOP: Phase.ROLLING_BACK, Event.GONE: Phase.ROLLING_BACK}

TRANSITIONS: Final[dict[Phase, dict[Event, Phase]]] = {
    Phase.HOLDING: {
        Event.FROZEN: Phase.CHECKING,
        Event.LEFT: Phase.ENDED,
        Event.STOP: Phase.CLEANING,
        Event.GONE: Phase.CLEANING,
    },
    Phase.CHECKING: {
        Event.CLEARED: Phase.PREPARING,
        Event.REFUSED: Phase.HELD,
        Event.STOP: Phase.CLEANING,
        Event.GONE: Phase.CLEANING,
    },
    Phase.PREPARING: {Event.PREPARED: Phase.SCALING, **_LADDER},
    Phase.SCALING: {Event.READY: Phase.RAISING, Event.SLIPPED: Phase.PREPARING, **_LADDER},
    Phase.RAISING: {Event.IN_FORCE: Phase.JUDGING, Event.SLIPPED: Phase.PREPARING, **_LADDER},
    Phase.JUDGING: {
        Event.PASSED: Phase.SCALING,
        Event.PROMOTED: Phase.COMMITTING,
        Event.LADDER_PASSED: Phase.ROLLING_OUT,
        Event.SLIPPED: Phase.PREPARING,
        **_LADDER,
    },
    Phase.COMMITTING: {
        Event.COMMITTED: Phase.ROLLING,
        Event.SLIPPED: Phase.PREPARING,
        **_LADDER,
    },
    Phase.ROLLING: {
        Event.ROLLED: Phase.HANDING_BACK,
        Event.STOP: Phase.UNDOING,
        Event.GONE: Phase.ROLLING_BACK,
    },
    Phase.HANDING_BACK: {
        Event.HANDED_BACK: Phase.RESTORING,
        Event.STOP: Phase.UNDOING,
        Event.GONE: Phase.ROLLING_BACK,
    },
    Phase.ROLLING_OUT: {
        Event.ROLLED: Phase.BAKING,
        Event.STOP: Phase.ORPHANING,
        Event.GONE: Phase.ROLLING_BACK,
    },
    Phase.BAKING: {
        Event.BAKED: Phase.RESTORING,
        Event.STOP: Phase.ORPHANING,
        Event.GONE: Phase.ROLLING_BACK,
    },
    Phase.ORPHANING: {Event.STABLE_BACK: Phase.ROLLING_BACK, Event.GONE: Phase.ROLLING_BACK},
    Phase.RESTORING: {Event.RESTORED: Phase.ENDED, Event.GONE: Phase.CLEANING},
    Phase.UNDOING: {Event.STABLE_BACK: Phase.ROLLING_BACK, Event.GONE: Phase.ROLLING_BACK},
    Phase.ROLLING_BACK: {Event.ZERO: Phase.CLEANING},
    Phase.CLEANING: {
        Event.CLEAN_HELD: Phase.HELD,
        Event.CLEAN_RESUME: Phase.RESUMING,
        Event.CLEAN_ENDED: Phase.ENDED,
    },
    Phase.HELD: {
        Event.CLEARED: Phase.CHECKING,
        Event.CLEAN_RESUME: Phase.RESUMING,
        Event.LEFT: Phase.ENDED,
        Event.GONE: Phase.ENDED,
    },
    Phase.RESUMING: {Event.RESTORED: Phase.ENDED, Event.LEFT: Phase.ENDED, Event.GONE: Phase.ENDED},
    Phase.ENDED: {},
}

UNTOUCHED: Final = frozenset({Phase.HOLDING, Phase.CHECKING})
"""Nothing of ours exists yet but the pause."""

EXPOSED: Final = frozenset({Phase.SCALING, Phase.RAISING, Phase.JUDGING, Phase.COMMITTING})
"""The canary may carry requests and the stable pods all stand."""

COMMITTED: Final = frozenset({Phase.ROLLING, Phase.HANDING_BACK, Phase.UNDOING})
"""Stable pods may be gone: weight 0 alone is no safety here."""

ARMED: Final = frozenset({Phase.ROLLING_OUT, Phase.BAKING})
"""The user's own pods change under traffic, and evidence is gathered meanwhile."""

SERVED: Final = ARMED | {Phase.HANDING_BACK}
"""Requests reach the user's own pods of the new version, which are on trial themselves."""

ALL_IN: Final = SERVED | {Phase.COMMITTING, Phase.ROLLING}
"""All requests go to the new version, or will in a moment."""

LEADING: Final = frozenset(
    {Phase.COMMITTING, Phase.HANDING_BACK, Phase.RESTORING, Phase.UNDOING, Phase.ROLLING_BACK}
)
"""Where the Services lead is changed, and somebody's pods go as soon as they have followed."""

WATCHED: Final = EXPOSED | SERVED | {Phase.ROLLING}
"""Evidence is gathered, and may end the run."""

FOLLOWED: Final = WATCHED | {Phase.PREPARING}
"""Phases in which scraped counts are wanted, and with which evidence is made durable."""

RETURNING: Final = frozenset({Phase.UNDOING, Phase.ORPHANING, Phase.ROLLING_BACK, Phase.CLEANING})
"""The run is on its way back and nothing turns it round."""

RESTING: Final = frozenset({Phase.HELD, Phase.ENDED})
"""Nothing is under way: no metrics are read and no timer runs."""


def advance(phase: Phase, event: Event) -> Phase:
    """The phase after `event`.

    Raises InvariantBroken, and so changes nothing, if the table has no such transition.
    """
    try:
        return TRANSITIONS[phase][event]
    except KeyError:
        message = f"no transition from {phase.value} by {event.name}"
        raise InvariantBroken(message) from None


def diagram() -> str:
    """The table as a Mermaid state diagram; `docs/lifecycle.md` holds it, a test compares."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.HOLDING.value}"]
    for phase, exits in TRANSITIONS.items():
        arrows: dict[Phase, list[str]] = {}
        for event, after in exits.items():
            arrows.setdefault(after, []).append(event.name)
        lines += [
            f"    {phase.value} --> {after.value}: {', '.join(names)}"
            for after, names in arrows.items()
        ]
    lines.append(f"    {Phase.ENDED.value} --> [*]")
    return "\n".join(lines) + "\n"
