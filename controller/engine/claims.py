# SPDX-License-Identifier: Apache-2.0
"""A leader puts its epoch on what it may raise, so that no write of an earlier leader still counts.

A raise is sent with the condition that its object carries our epoch. It is put there before the
epoch in the cluster document is read for the permit. A later leader raises that epoch first, then
makes each run document its own, and then claims what the intents that stand open in it name: only
those may still be on their way. So whatever an earlier leader has read, its raise arrives before
the claim, when the later one has not yet decided anything, or not at all.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

from controller.core import effects, errors
from controller.core.effects import Riskier
from controller.core.lifecycle.memory import Run
from controller.core.values import canary_name
from controller.ports.cluster import Claim, Cluster, ObjectRef
from controller.ports.documents import Documents

NOBODY: Final = 0
"""No leader has this epoch."""

TRIES: Final = 4
"""Compare-and-set on objects whose status moves by itself, as a Deployment's does in a roll."""


def of_effect(effect: Riskier) -> list[ObjectRef]:
    """What an effect toward risk writes."""
    match effect:
        case effects.RaiseWeight(splits=splits):
            routes = dict.fromkeys(split.route for split in splits)
            return [ObjectRef(ref.kind, ref.namespace, ref.name) for ref in routes]
        case effects.Admit(target=target, services=services):
            return [ObjectRef("Service", target.namespace, name) for name, _ in services]
        case effects.StartCanary(target=target):
            return [ObjectRef("Deployment", target.namespace, target.canary)]
        case effects.FollowCanary(target=target, name=name):
            return [ObjectRef("Service", target.namespace, name)]
        case effects.Roll(target=target):
            return [ObjectRef("Deployment", target.namespace, target.name)]
        case _:
            assert_never(effect)


def of_intents(intents: Sequence[Mapping[str, Any]]) -> tuple[ObjectRef, ...]:
    """What effects toward risk may still be writing whose intents stand open in a journal.

    Raises KeyError, TypeError or AttributeError for an intent of a shape that we never write.
    """
    found: dict[ObjectRef, None] = {}
    for intent in intents:
        target = intent.get("target", {})
        match intent.get("effect"):
            case "RaiseWeight":
                for split in intent["splits"]:
                    route = split["route"]
                    found[ObjectRef(route["kind"], route["namespace"], route["name"])] = None
            case "Admit":
                for name, _ in intent["services"]:
                    found[ObjectRef("Service", target["namespace"], name)] = None
            case "StartCanary":
                name = canary_name(target["name"])
                found[ObjectRef("Deployment", target["namespace"], name)] = None
            case "FollowCanary":
                found[ObjectRef("Service", target["namespace"], intent["name"])] = None
            case "Roll":
                found[ObjectRef("Deployment", target["namespace"], target["name"])] = None
            case _:
                pass  # What leads toward safety needs no fence.
    return tuple(found)


def of_run(run: Run) -> list[ObjectRef]:
    """Everything that an effect toward risk of this run writes."""
    space = run.target.namespace
    routes = dict.fromkeys(lane.route for lane in run.lanes)
    return [
        *(ObjectRef(ref.kind, ref.namespace, ref.name) for ref in routes),
        *(ObjectRef("Service", space, pin.service) for pin in run.pins),
        ObjectRef("Deployment", space, run.target.canary),
        ObjectRef("Deployment", space, run.target.name),
    ]


async def void(cluster: Cluster, refs: Sequence[ObjectRef]) -> None:
    """Let no raise that is on its way arrive at these objects.

    Weight 0 where the weight is 0 already changes nothing, and so would not stop one. What carries
    no leader's epoch needs nothing: nobody can be raising it, and whoever claims it from here on
    reads the latches afterwards. Errors as `hold`, but that nobody is asked.
    """
    waiting = list(refs)
    for _ in range(TRIES):
        seen = await cluster.read_claims(waiting)
        held = [claim for claim in seen if claim.epoch]
        done = await asyncio.gather(*(_claim(cluster, claim, NOBODY) for claim in held))
        waiting = [claim.ref for claim, gone in zip(held, done, strict=True) if not gone]
        if not waiting:
            return
    message = f"{waiting[0]} kept moving"
    raise errors.Conflict(message)


async def hold(
    cluster: Cluster, documents: Documents, refs: Sequence[ObjectRef], epoch: int
) -> list[str]:
    """Put our epoch on these objects, as long as it is the newest; returns which were written.

    Raises Conflict if one keeps moving, and otherwise as the ports do.
    """
    written: list[str] = []
    waiting = list(refs)
    for _ in range(TRIES):
        seen = await cluster.read_claims(waiting)
        other = [claim for claim in seen if claim.epoch != epoch]
        if not other:
            return written
        if (await documents.latches()).epoch != epoch:
            # Whoever leads now holds them; the permit says so in words.
            return written
        results = await asyncio.gather(*(_claim(cluster, claim, epoch) for claim in other))
        written.extend(str(claim.ref) for claim, done in zip(other, results, strict=True) if done)
        waiting = [claim.ref for claim, done in zip(other, results, strict=True) if not done]
        if not waiting:
            return written
    message = f"{waiting[0]} kept moving"
    raise errors.Conflict(message)


async def _claim(cluster: Cluster, claim: Claim, epoch: int) -> bool:
    try:
        await cluster.claim(claim, epoch)
    except errors.Conflict:
        return False
    return True
