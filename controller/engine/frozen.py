# SPDX-License-Identifier: Apache-2.0
"""What is done for a target whose run document cannot be used: as little as is safe.

Nobody judges its versions while the document stands. So a change is kept from getting pods, and a
version on trial loses its requests.
"""

from controller.core import effects
from controller.core.effects import Safer
from controller.core.lifecycle import leftovers, rest
from controller.core.lifecycle.machine import after_commit
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.values import TargetRef


def kept(situation: Situation, target: TargetRef, damaged: Run | None, why: str) -> list[Safer]:
    """The effects that keep the target as it is; `damaged` is the run as far as it is readable."""
    wanted: list[Safer] = []
    if damaged is None or not after_commit(damaged.phase):
        # After the commit the stable pods may be gone: there nothing is taken from the others.
        step = leftovers.emptied(situation, target)
        wanted.extend(step.effects if step is not None else ())
    if wanted:
        return wanted
    deployment = situation.view.deployment
    change = rest.look(situation, target).change
    if deployment is None or change is None:
        return wanted
    if not deployment.paused:
        wanted.append(effects.Pause(target=target, uid=deployment.uid, why=why))
    wanted.extend(
        effects.FreezeReplicaSet(target=target, name=item.name, uid=item.uid)
        for item in situation.view.replica_sets
        if item.digest == deployment.digest and item.replicas > 0 and not item.deleting
    )
    return wanted
