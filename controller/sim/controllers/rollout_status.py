# SPDX-License-Identifier: Apache-2.0
"""The status of a Deployment: counts, conditions and the progress deadline.

Pure functions over the objects; conditions that say nothing new keep their times, because the
progress deadline is measured from them.
"""

from __future__ import annotations

from typing import Any

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.store import clone
from controller.sim.clock import parse_rfc3339
from controller.sim.controllers.objects import condition, spec_replicas, status_count
from controller.sim.controllers.rolling import Sets, available, max_unavailable, total

NO_DEADLINE = 2**31 - 1
"""The progress deadline that means none."""

COMPLETE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"


def deadline_of(deployment: JsonObject) -> int | None:
    """The progress deadline in seconds, or None if there is none."""
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    return None if seconds is None or seconds == NO_DEADLINE else int(seconds)


def set_condition(
    status: JsonObject, now: str, kind: str, value: str, *, reason: str, message: str
) -> bool:
    """Write a condition unless one with this value and reason stands; tell whether it changed."""
    conditions: list[JsonObject] = status.setdefault("conditions", [])
    before = next((item for item in conditions if item["type"] == kind), None)
    if before is not None and before["status"] == value and before["reason"] == reason:
        return False
    moved = now if before is None or before["status"] != value else before["lastTransitionTime"]
    fresh = {
        "type": kind,
        "status": value,
        "lastUpdateTime": now,
        "lastTransitionTime": moved,
        "reason": reason,
        "message": message,
    }
    status["conditions"] = [item for item in conditions if item["type"] != kind] + [fresh]
    return True


def drop_condition(status: JsonObject, kind: str) -> None:
    """Remove a condition if it stands."""
    if status.get("conditions"):
        status["conditions"] = [item for item in status["conditions"] if item["type"] != kind]


def paused_condition(deployment: JsonObject, now: str) -> bool:
    """Note in the status that the Deployment is paused or resumed; tell whether that is news.

    The deadline does not run while it is paused, and a resumption starts it anew.
    """
    if deadline_of(deployment) is None:
        return False
    progressing = condition(deployment, "Progressing")
    reason = progressing["reason"] if progressing else None
    if reason == TIMED_OUT:
        return False
    status = deployment.setdefault("status", {})
    paused = bool(deployment["spec"].get("paused"))
    if paused and reason != PAUSED:
        text = "Deployment is paused"
        return set_condition(status, now, "Progressing", "Unknown", reason=PAUSED, message=text)
    if not paused and reason == PAUSED:
        text = "Deployment is resumed"
        return set_condition(status, now, "Progressing", "Unknown", reason=RESUMED, message=text)
    return False


def calculated(deployment: JsonObject, sets: Sets, new: JsonObject | None, now: str) -> JsonObject:
    """The status that follows from the ReplicaSets, conditions carried over."""
    news = [] if new is None else [new]
    usable = available(sets)
    counts: dict[str, Any] = {
        "replicas": _sum(sets, "replicas"),
        "updatedReplicas": _sum(news, "replicas"),
        "readyReplicas": _sum(sets, "readyReplicas"),
        "availableReplicas": usable,
        "unavailableReplicas": max(0, total(sets) - usable),
    }
    before = deployment.get("status") or {}
    status: JsonObject = {"observedGeneration": deployment["metadata"].get("generation", 0)}
    status |= {name: count for name, count in counts.items() if count}
    # A pointer in the real type: it is written even when it is zero.
    status["terminatingReplicas"] = _sum(sets, "terminatingReplicas")
    if before.get("collisionCount"):
        status["collisionCount"] = before["collisionCount"]
    if before.get("conditions"):
        status["conditions"] = clone(before["conditions"])
    if usable >= spec_replicas(deployment) - max_unavailable(deployment):
        text = "Deployment has minimum availability."
        set_condition(
            status, now, "Available", "True", reason="MinimumReplicasAvailable", message=text
        )
    else:
        text = "Deployment does not have minimum availability."
        set_condition(
            status, now, "Available", "False", reason="MinimumReplicasUnavailable", message=text
        )
    return status


def _sum(sets: Sets, name: str) -> int:
    return sum(status_count(rs, name) for rs in sets)


def complete(deployment: JsonObject, status: JsonObject) -> bool:
    """Tell whether every wanted pod is new and available, and no other pod is left."""
    wanted = spec_replicas(deployment)
    names = ("updatedReplicas", "replicas", "availableReplicas")
    return (
        all(int(status.get(name) or 0) == wanted for name in names)
        and int(status.get("observedGeneration") or 0) >= deployment["metadata"]["generation"]
    )


def progressed(before: JsonObject, after: JsonObject) -> bool:
    """Tell whether one status is nearer to the end of a roll than another."""

    def count(status: JsonObject, name: str) -> int:
        return int(status.get(name) or 0)

    def old(status: JsonObject) -> int:
        return count(status, "replicas") - count(status, "updatedReplicas")

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return old(after) < old(before) or any(count(after, n) > count(before, n) for n in grown)


def overdue_in(deployment: JsonObject, status: JsonObject, now: float) -> float | None:
    """Seconds until the progress deadline passes (negative: it has), or None if none runs."""
    seconds = deadline_of(deployment)
    progressing = condition({"status": status}, "Progressing")
    if seconds is None or progressing is None or progressing["reason"] in {COMPLETE, PAUSED}:
        return None
    return parse_rfc3339(progressing["lastUpdateTime"]) + seconds - now


def rolled(
    deployment: JsonObject, sets: Sets, new: JsonObject | None, now: str, seconds: float
) -> JsonObject:
    """The status during and after a roll: :func:`calculated`, with the Progressing condition.

    ``now`` and ``seconds`` are the same moment, as a timestamp and since 1970.
    """
    status = calculated(deployment, sets, new, now)
    if deadline_of(deployment) is None:
        drop_condition(status, "Progressing")
    else:
        _judge_progress(deployment, status, new, now, seconds)
    _replica_failure(status, sets, new, now)
    return status


def _judge_progress(
    deployment: JsonObject, status: JsonObject, new: JsonObject | None, now: str, seconds: float
) -> None:
    before = condition(deployment, "Progressing")
    finished = before is not None and before["reason"] == COMPLETE
    if finished and status.get("replicas", 0) == status.get("updatedReplicas", 0):
        return
    owner = deployment if new is None else new
    word = "Deployment" if new is None else "ReplicaSet"
    subject = f'{word} "{owner["metadata"]["name"]}"'
    overdue = overdue_in(deployment, status, seconds)
    if complete(deployment, status):
        text = f"{subject} has successfully progressed."
        set_condition(status, now, "Progressing", "True", reason=COMPLETE, message=text)
    elif progressed(deployment.get("status") or {}, status):
        text = f"{subject} is progressing."
        drop_condition(status, "Progressing")
        set_condition(status, now, "Progressing", "True", reason="ReplicaSetUpdated", message=text)
        if before is not None and before["status"] == "True":
            status["conditions"][-1]["lastTransitionTime"] = before["lastTransitionTime"]
    elif overdue is not None and overdue < 0:
        text = f"{subject} has timed out progressing."
        set_condition(status, now, "Progressing", "False", reason=TIMED_OUT, message=text)


def _replica_failure(status: JsonObject, sets: Sets, new: JsonObject | None, now: str) -> None:
    """Pass on the failure of the new ReplicaSet, or else of any, to create pods."""
    ordered = [*([new] if new is not None else []), *sets]
    found = next((c for rs in ordered if (c := condition(rs, "ReplicaFailure")) is not None), None)
    if found is None:
        drop_condition(status, "ReplicaFailure")
        return
    set_condition(
        status,
        now,
        "ReplicaFailure",
        found["status"],
        reason=found["reason"],
        message=found.get("message", ""),
    )
