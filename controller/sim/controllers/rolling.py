# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of a Deployment: how many replicas each of its ReplicaSets should have.

Pure functions over the objects.  They follow the Deployment controller of Kubernetes 1.37 in every
rounding and every order, because a canary controller lives from knowing exactly which pods a pause,
a scale or an interrupted rolling update leaves behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from controller.sim.apiserver.errors import JsonObject
from controller.sim.controllers.objects import (
    HASH_LABEL,
    created,
    notes_of,
    pruned,
    scaled,
    spec_replicas,
    status_count,
)

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"

Sets = Sequence[JsonObject]
Sizes = dict[str, int]
"""The wanted size by name of the ReplicaSet."""


def is_rolling(deployment: JsonObject) -> bool:
    """Tell whether the strategy is RollingUpdate, the default."""
    strategy = deployment["spec"].get("strategy") or {}
    return bool(strategy.get("type", "RollingUpdate") == "RollingUpdate")


def fenceposts(deployment: JsonObject) -> tuple[int, int]:
    """Resolved maxSurge and maxUnavailable; if both round to zero, one pod may be unavailable."""
    if not is_rolling(deployment):
        return 0, 0
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    total = spec_replicas(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), total, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), total, up=False)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def max_surge(deployment: JsonObject) -> int:
    """How many pods may exist above the wanted number."""
    return fenceposts(deployment)[0]


def max_unavailable(deployment: JsonObject) -> int:
    """How many of the wanted pods may be missing during a rolling update."""
    total = spec_replicas(deployment)
    return min(total, fenceposts(deployment)[1]) if total else 0


def same_template(a: JsonObject, b: JsonObject) -> bool:
    """Compare two pod templates, whatever their pod-template-hash."""
    return _without_hash(a) == _without_hash(b)


def _without_hash(template: JsonObject) -> object:
    clean = pruned(template)
    metadata = dict(clean.get("metadata") or {})
    kept = {
        key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH_LABEL
    }
    metadata.pop("labels", None)
    metadata.pop("creationTimestamp", None)
    if kept:
        metadata["labels"] = kept
    return {**clean, "metadata": metadata}


def find_new(deployment: JsonObject, sets: Iterable[JsonObject]) -> JsonObject | None:
    """The ReplicaSet of the present template: the oldest one, should there be several."""
    for rs in sorted(sets, key=created):
        if same_template(rs["spec"]["template"], deployment["spec"]["template"]):
            return rs
    return None


def active(sets: Iterable[JsonObject | None]) -> list[JsonObject]:
    """Those that ask for any replica."""
    return [rs for rs in sets if rs is not None and spec_replicas(rs) > 0]


def total(sets: Iterable[JsonObject]) -> int:
    """The sum of asked-for replicas."""
    return sum(spec_replicas(rs) for rs in sets)


def available(sets: Iterable[JsonObject]) -> int:
    """The sum of available replicas."""
    return sum(status_count(rs, "availableReplicas") for rs in sets)


def revision(obj: JsonObject) -> int:
    """The revision of a ReplicaSet or Deployment, zero if none is written."""
    text = notes_of(obj).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def size_of_new(deployment: JsonObject, sets: Sets, current: int) -> int:
    """The size that the new ReplicaSet may have now, given its ``current`` one.

    ``sets`` are all ReplicaSets, the new one included.
    """
    wanted = spec_replicas(deployment)
    if not is_rolling(deployment):
        return wanted
    room = wanted + max_surge(deployment) - total(sets)
    if room <= 0:
        return current
    return current + min(room, wanted - current)


def is_saturated(deployment: JsonObject, new: JsonObject | None) -> bool:
    """Tell whether the new ReplicaSet alone is all that the Deployment wants."""
    if new is None:
        return False
    wanted = spec_replicas(deployment)
    desired = notes_of(new).get(DESIRED, "")
    return (
        spec_replicas(new) == wanted
        and desired == str(wanted)
        and status_count(new, "availableReplicas") == wanted
    )


def only_active_or_latest(new: JsonObject | None, olds: Sets) -> JsonObject | None:
    """The one ReplicaSet that a scale goes to, or None if several are active."""
    found = active([*olds, new])
    if len(found) > 1:
        return None
    if found:
        return found[0]
    if new is not None:
        return new
    return max(olds, key=created) if olds else None


def proportional(deployment: JsonObject, sets: Sets) -> Sizes:
    """The sizes of several active ReplicaSets when the Deployment is scaled in mid-roll.

    Each gets its share of what is added or taken away; the largest gets the leftover.  Among
    equals the newer one is served first when growing, the older one when shrinking.
    """
    wanted = spec_replicas(deployment)
    allowed = wanted + max_surge(deployment) if wanted else 0
    change = allowed - total(sets)
    ordered = sorted(sets, key=created, reverse=change > 0)
    ordered.sort(key=spec_replicas, reverse=True)
    sizes = {rs["metadata"]["name"]: spec_replicas(rs) for rs in ordered}
    if change == 0 or not ordered:
        return sizes
    given = 0
    for rs in ordered:
        share = _share(deployment, rs, change, given)
        sizes[rs["metadata"]["name"]] += share
        given += share
    first = ordered[0]["metadata"]["name"]
    sizes[first] = max(0, sizes[first] + change - given)
    return sizes


def _share(deployment: JsonObject, rs: JsonObject, change: int, given: int) -> int:
    left = change - given
    if left == 0:
        return 0
    fraction = _fraction(deployment, rs)
    return min(fraction, left) if change > 0 else max(fraction, left)


def _fraction(deployment: JsonObject, rs: JsonObject) -> int:
    size, wanted = spec_replicas(rs), spec_replicas(deployment)
    if wanted == 0:
        return -size
    text = notes_of(rs).get(MAXIMUM, "")
    before = int(text) if text.isdigit() else 0
    before = before or status_count(deployment, "replicas")
    if before == 0:
        return 0
    # Go's integer(round) rounds halves away from zero; both sides are positive here.
    return math.floor(size * (wanted + max_surge(deployment)) / before + 0.5) - size


def old_sizes(deployment: JsonObject, new: JsonObject, olds: Sets) -> Sizes:
    """The sizes of the old ReplicaSets at this moment of a rolling update.

    First pods that are not available anyway go, oldest ReplicaSet first, then as many healthy ones
    as the number of available pods allows.
    """
    sizes = {rs["metadata"]["name"]: spec_replicas(rs) for rs in olds}
    floor = spec_replicas(deployment) - max_unavailable(deployment)
    missing = spec_replicas(new) - status_count(new, "availableReplicas")
    budget = total([*olds, new]) - floor - missing
    if total(olds) == 0 or budget <= 0:
        return sizes
    ordered = sorted(olds, key=created)
    for rs in ordered:
        name = rs["metadata"]["name"]
        unhealthy = max(0, sizes[name] - status_count(rs, "availableReplicas"))
        gone = min(budget, unhealthy)
        sizes[name] -= gone
        budget -= gone
    spare = available([*olds, new]) - floor
    for rs in ordered:
        name = rs["metadata"]["name"]
        gone = max(0, min(sizes[name], spare))
        sizes[name] -= gone
        spare -= gone
    return sizes
