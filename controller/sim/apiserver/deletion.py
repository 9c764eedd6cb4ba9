# SPDX-License-Identifier: Apache-2.0
"""How an object goes away: grace periods, finalizers and what propagation leaves behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.sim.apiserver.errors import Cause, JsonObject, invalid
from controller.sim.apiserver.resources import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_OF_PROPAGATION = {"Foreground": FOREGROUND, "Orphan": ORPHAN}
_DEFAULT_POD_GRACE = 30


def grace_period(served: Resource, obj: JsonObject, asked: int | None) -> int:
    """Return the seconds that an object may stay after its deletion (0 for all but pods)."""
    if served.key != "pods":
        return 0
    spec = obj.get("spec") or {}
    finished_phase = (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    if not spec.get("nodeName") or finished_phase:
        return 0
    seconds = asked
    if seconds is None:
        seconds = int(spec.get("terminationGracePeriodSeconds", _DEFAULT_POD_GRACE))
    running = obj["metadata"].get("deletionGracePeriodSeconds")
    return seconds if running is None else min(seconds, int(running))


def set_finalizers(obj: JsonObject, propagation: str | None) -> None:
    """Give the object the finalizer that its propagation policy needs, and drop the other one."""
    if propagation is None:
        return
    meta = obj["metadata"]
    before = list(meta.get("finalizers") or [])
    kept = [name for name in before if name not in (FOREGROUND, ORPHAN)]
    wanted = _OF_PROPAGATION.get(propagation)
    if wanted:
        kept.append(wanted)
    if set(kept) == set(before):
        return
    if kept:
        meta["finalizers"] = kept
    else:
        meta.pop("finalizers", None)


def mark(obj: JsonObject, now: datetime, seconds: int) -> None:
    """Write when the object is to be gone, unless an earlier deletion already said so."""
    meta = obj["metadata"]
    running = meta.get("deletionGracePeriodSeconds")
    if "deletionTimestamp" in meta and running is not None and seconds >= int(running):
        return
    gone = now + timedelta(seconds=seconds)
    meta["deletionTimestamp"] = gone.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta["deletionGracePeriodSeconds"] = seconds
    if running is None and meta.get("generation"):
        meta["generation"] += 1
    if obj.get("kind") == "Namespace":
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}


def finished(obj: JsonObject) -> bool:
    """Return whether nothing holds a deleted object back any longer."""
    meta = obj["metadata"]
    if "deletionTimestamp" not in meta or meta.get("finalizers"):
        return False
    return not (obj.get("kind") == "Namespace" and (obj.get("spec") or {}).get("finalizers")) and (
        not meta.get("deletionGracePeriodSeconds")
    )


def check_new_finalizers(served: Resource, new: JsonObject, old: JsonObject) -> None:
    """Refuse finalizers that are added to an object which is already being deleted."""
    if "deletionTimestamp" not in old:
        return
    added = sorted(set(new.get("finalizers") or []) - set(old.get("finalizers") or []))
    if added:
        listed = ", ".join(f'"{name}"' for name in added)
        message = (
            "Forbidden: no new finalizers can be added if the object is being deleted, "
            f"found new finalizers []string{{{listed}}}"
        )
        cause = Cause(reason="FieldValueForbidden", message=message, field="metadata.finalizers")
        raise invalid(served.kind, served.group, str(old["name"]), [cause])
