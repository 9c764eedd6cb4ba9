# SPDX-License-Identifier: Apache-2.0
"""Which pods of a target may lead, when the controller runs as a sidecar in them.

A version that nobody has judged must not decide about itself. So before the commit only a pod of
the stable template leads, and from the commit on also one of the template that the evidence has
promoted, since the stable pods go away. A pod of the canary Deployment never leads: it goes in any
case, and with it whoever would have had to take it off traffic.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from controller.core.lifecycle.memory import Run, parse_mark
from controller.core.lifecycle.table import ARMED, COMMITTED, Phase
from controller.core.observation import Deployment

PROMOTED: Final = COMMITTED | ARMED | {Phase.RESTORING, Phase.ORPHANING}
"""From the commit on. On the way back from there too (UNDOING, ORPHANING): the last stable pod may
be gone before the first is back, and somebody has to bring them back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What a pod knows of itself, from its own labels."""

    hash: str
    """`pod-template-hash`."""
    track: str
    """`switchgear.dev/track`; empty for a pod of the user's own Deployment."""


def trusted(pod: Pod, deployment: Deployment | None) -> bool | None:
    """Whether the mark alone decides: True, False, or None if the runs have to be asked."""
    if pod.track or deployment is None:
        return False
    mark = parse_mark(deployment.annotations.get("managed", ""))
    if mark is None or mark.uid != deployment.uid:
        # The first pods of a Deployment roll natively; there is nothing to judge them against.
        return True
    return True if pod.hash == mark.hash else None


def barred(pod: Pod, deployment: Deployment | None, runs: Iterable[Run]) -> str:
    """Why this pod must not lead now; empty: it may."""
    if pod.track:
        return f"this is a pod of the {pod.track} track, which never leads"
    if deployment is None:
        return "the Deployment is not there, or was not read yet"
    if trusted(pod, deployment):
        return ""
    if any(run.uid == deployment.uid and run.phase in PROMOTED for run in runs):
        return ""
    return f"the template of this pod ({pod.hash}) is not the one that is trusted"
