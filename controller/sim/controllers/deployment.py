# SPDX-License-Identifier: Apache-2.0
"""The Deployment controller: rolling update, Recreate, pause, scale, adoption, history, deadline.

Three facts that a canary on a plain Deployment stands on live here.  A paused Deployment makes no
new ReplicaSet, but goes on scaling: exactly one active ReplicaSet gets the whole number, several
are kept in proportion.  A ReplicaSet of a paused Deployment scaled to zero stays there.  Ownership
goes by controllerRef, and a ReplicaSet with an equal template is taken as the new one.
"""

from __future__ import annotations

import hashlib
import json

from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.store import Event, clone
from controller.sim.controllers import rolling, rollout_status
from controller.sim.controllers.base import Controller, Name
from controller.sim.controllers.objects import (
    HASH_LABEL,
    controller_of,
    controller_ref,
    created,
    deleting,
    key_of,
    labels,
    notes_of,
    pruned,
    selects,
    spec_replicas,
    status_count,
)
from controller.sim.controllers.ownership import claim
from controller.sim.controllers.rolling import DESIRED, MAXIMUM, REVISION, REVISION_HISTORY

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAXIMUM,
    }
)
Sets = list[JsonObject]


def template_hash(template: JsonObject, collisions: int) -> str:
    """A pod-template-hash: ten letters that depend on the template and the collision count."""
    text = json.dumps(pruned(template), sort_keys=True) + str(collisions)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    letters = []
    for _ in range(10):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


class DeploymentController(Controller[Name]):
    """Keeps the ReplicaSets of every Deployment as its spec asks."""

    def observe(self, event: Event) -> None:
        """A Deployment, one of its ReplicaSets, or the end of a pod (Recreate waits for it)."""
        match event.resource.key:
            case "deployments.apps":
                self.enqueue(key_of(event.obj))
            case "replicasets.apps":
                self._owner_of_set(event)
            case "pods" if event.type == "DELETED":
                self._owner_of_pod(event.obj)
            case _:
                pass

    def _owner_of_set(self, event: Event) -> None:
        refs = [controller_of(event.obj)]
        if event.previous is not None:
            refs.append(controller_of(event.previous))
        for ref in refs:
            if ref is not None and ref["kind"] == "Deployment":
                self.enqueue((event.namespace, ref["name"]))
        if refs[0] is None:
            for deployment in self.store.scan("deployments", event.namespace):
                if selects(deployment["spec"].get("selector"), labels(event.obj)):
                    self.enqueue(key_of(deployment))

    def _owner_of_pod(self, pod: JsonObject) -> None:
        ref = controller_of(pod)
        if ref is None or ref["kind"] != "ReplicaSet":
            return
        rs = self.store.peek("replicasets", key_of(pod)[0], ref["name"])
        owner = None if rs is None else controller_of(rs)
        if owner is not None and owner["kind"] == "Deployment":
            self.enqueue((key_of(pod)[0], owner["name"]))

    def sync(self, key: Name) -> None:
        """One pass over a Deployment; what it writes brings the next pass."""
        found = self.store.get("deployments", *key)
        if found is None:
            return
        sets = claim(self.store, "replicasets", found, self.store.scan("replicasets", key[0]))
        if deleting(found):
            new, _ = self._split(found, sets)
            self._publish(found, rollout_status.calculated(found, sets, new, self._now()))
            return
        deployment = found
        if rollout_status.paused_condition(deployment, self._now()):
            self._update_status(deployment)
        if deployment["spec"].get("paused"):
            self._hold(deployment, sets)
            return
        new, olds = self._with_new(deployment, sets, create=False)
        if self._was_scaled(deployment, new, olds):
            self._hold(deployment, sets)
        elif rolling.is_rolling(deployment):
            self._roll(deployment, sets)
        else:
            self._recreate(deployment, sets)

    # --- what a pass may do ---------------------------------------------------------------------

    def _hold(self, deployment: JsonObject, sets: Sets) -> None:
        """Scale what exists and start nothing new: a pause, or a change of the size."""
        new, olds = self._with_new(deployment, sets, create=False)
        self._scale(deployment, new, olds)
        if deployment["spec"].get("paused"):
            self._clean_history(deployment, olds)
        every = olds if new is None else [*olds, new]
        self._publish(deployment, rollout_status.calculated(deployment, every, new, self._now()))

    def _scale(self, deployment: JsonObject, new: JsonObject | None, olds: Sets) -> None:
        only = rolling.only_active_or_latest(new, olds)
        if only is not None:
            self._resize(deployment, only, spec_replicas(deployment))
        elif rolling.is_saturated(deployment, new):
            for rs in rolling.active(olds):
                self._resize(deployment, rs, 0)
        elif rolling.is_rolling(deployment):
            live = rolling.active([*olds, new])
            sizes = rolling.proportional(deployment, live)
            for rs in live:
                self._resize(deployment, rs, sizes[rs["metadata"]["name"]], refresh=True)

    def _was_scaled(self, deployment: JsonObject, new: JsonObject | None, olds: Sets) -> bool:
        wanted = str(spec_replicas(deployment))
        every = rolling.active([*olds, new])
        return any(notes_of(rs).get(DESIRED, wanted) != wanted for rs in every)

    def _roll(self, deployment: JsonObject, sets: Sets) -> None:
        new, olds = self._with_new(deployment, sets, create=True)
        if new is None:
            return
        wanted, size = spec_replicas(deployment), spec_replicas(new)
        target = wanted if size > wanted else rolling.size_of_new(deployment, [*olds, new], size)
        moved = size != wanted and self._resize(deployment, new, target)
        if not moved:
            sizes = rolling.old_sizes(deployment, new, rolling.active(olds))
            for rs in rolling.active(olds):
                moved |= self._resize(deployment, rs, sizes[rs["metadata"]["name"]])
        self._finish(deployment, new, olds, clean=not moved)

    def _recreate(self, deployment: JsonObject, sets: Sets) -> None:
        new, olds = self._with_new(deployment, sets, create=False)
        moved = False
        for rs in rolling.active(olds):
            moved |= self._resize(deployment, rs, 0)
        if moved or self._runs_old(olds, key_of(deployment)[0]):
            self._finish(deployment, new, olds, clean=False)
            return
        if new is None:
            new, olds = self._with_new(deployment, sets, create=True)
        if new is not None:
            self._resize(deployment, new, spec_replicas(deployment))
        self._finish(deployment, new, olds, clean=True)

    def _runs_old(self, olds: Sets, namespace: str) -> bool:
        uids = {rs["metadata"]["uid"] for rs in olds}
        return any(
            (ref := controller_of(pod)) is not None
            and ref["uid"] in uids
            and (pod.get("status") or {}).get("phase") not in {"Failed", "Succeeded"}
            for pod in self.store.scan("pods", namespace)
        )

    def _finish(
        self, deployment: JsonObject, new: JsonObject | None, olds: Sets, *, clean: bool
    ) -> None:
        if clean and rollout_status.complete(deployment, deployment.get("status") or {}):
            self._clean_history(deployment, olds)
        every = olds if new is None else [*olds, new]
        seconds = self.cluster.wall.timestamp()
        status = rollout_status.rolled(deployment, every, new, self._now(), seconds)
        self._publish(deployment, status)
        left = rollout_status.overdue_in(deployment, status, seconds)
        if left is not None and left >= 0:
            # Timestamps are whole seconds; one more makes sure that the deadline has passed.
            self.enqueue(key_of(deployment), left + 1.0)

    # --- ReplicaSets ----------------------------------------------------------------------------

    def _split(self, deployment: JsonObject, sets: Sets) -> tuple[JsonObject | None, Sets]:
        new = rolling.find_new(deployment, sets)
        return new, [rs for rs in sorted(sets, key=created) if rs is not new]

    def _with_new(
        self, deployment: JsonObject, sets: Sets, *, create: bool
    ) -> tuple[JsonObject | None, Sets]:
        """The new ReplicaSet, numbered and annotated, made if asked for, and the old ones."""
        new, olds = self._split(deployment, sets)
        number = max((rolling.revision(rs) for rs in olds), default=0) + 1
        if new is None:
            if create:
                new = self._create_set(deployment, olds, number)
                sets.append(new)
            return new, olds
        min_ready = deployment["spec"].get("minReadySeconds", 0)
        stale = self._annotate_set(deployment, new, number, exists=True)
        if stale or new["spec"].get("minReadySeconds", 0) != min_ready:
            new["spec"]["minReadySeconds"] = min_ready
            new.update(self.store.update("replicasets", new))
        changed = self._number(deployment, notes_of(new)[REVISION])
        if rollout_status.deadline_of(deployment) is not None and not _has_progress(deployment):
            text = f'Found new replica set "{new["metadata"]["name"]}"'
            changed |= self._note(deployment, "True", "FoundNewReplicaSet", text)
        if changed:
            self._update_status(deployment)
        return new, olds

    def _create_set(self, deployment: JsonObject, olds: Sets, number: int) -> JsonObject:
        spec = deployment["spec"]
        collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
        digest = template_hash(spec["template"], collisions)
        template = clone(spec["template"])
        template.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = digest
        selector = clone(spec["selector"])
        selector.setdefault("matchLabels", {})[HASH_LABEL] = digest
        namespace, name = key_of(deployment)
        rs: JsonObject = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{name}-{digest}",
                "labels": dict(template["metadata"]["labels"]),
                "ownerReferences": [controller_ref(deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        if spec.get("minReadySeconds"):
            rs["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        rs["spec"]["replicas"] = rolling.size_of_new(deployment, [*olds, rs], 0)
        self._annotate_set(deployment, rs, number, exists=False)
        try:
            made = self.store.create("replicasets", namespace, rs)
        except ApiError as error:
            self._note_failed(deployment, rs, error, collisions)
            raise
        changed = self._number(deployment, str(number))
        if rollout_status.deadline_of(deployment) is not None:
            text = f'Created new replica set "{made["metadata"]["name"]}"'
            changed |= self._note(deployment, "True", "NewReplicaSetCreated", text)
        if changed:
            self._update_status(deployment)
        return made

    def _note_failed(
        self, deployment: JsonObject, rs: JsonObject, error: ApiError, collisions: int
    ) -> None:
        """A foreign ReplicaSet under our name makes another hash; other refusals are noted."""
        if error.reason == "AlreadyExists":
            deployment.setdefault("status", {})["collisionCount"] = collisions + 1
        elif rollout_status.deadline_of(deployment) is not None:
            text = f'Failed to create new replica set "{rs["metadata"]["name"]}": {error.message}'
            self._note(deployment, "False", "ReplicaSetCreateError", text)
        self._update_status(deployment)

    def _annotate_set(
        self, deployment: JsonObject, rs: JsonObject, number: int, *, exists: bool
    ) -> bool:
        """Copy annotations to a ReplicaSet and number it; tell whether that changed anything."""
        notes: dict[str, str] = rs["metadata"].setdefault("annotations", {})
        before = dict(notes)
        copied = notes_of(deployment).items()
        notes.update({name: value for name, value in copied if name not in _NOT_COPIED})
        had = notes.get(REVISION)
        if rolling.revision(rs) < number:
            notes[REVISION] = str(number)
            if had is not None:
                past = notes.get(REVISION_HISTORY)
                notes[REVISION_HISTORY] = f"{past},{had}" if past else had
        if not exists:
            self._annotate_size(deployment, rs)
        return notes != before

    def _annotate_size(self, deployment: JsonObject, rs: JsonObject) -> bool:
        notes: dict[str, str] = rs["metadata"].setdefault("annotations", {})
        wanted = spec_replicas(deployment)
        sizes = {DESIRED: str(wanted), MAXIMUM: str(wanted + rolling.max_surge(deployment))}
        if sizes.items() <= notes.items():
            return False
        notes.update(sizes)
        return True

    def _resize(
        self, deployment: JsonObject, rs: JsonObject, size: int, *, refresh: bool = False
    ) -> bool:
        """Scale a ReplicaSet; tell whether its size changed.

        ``refresh`` writes the size annotations even where the size itself stays.
        """
        same = spec_replicas(rs) == size
        if same and not refresh:
            return False
        noted = self._annotate_size(deployment, rs)
        if same and not noted:
            return False
        rs["spec"]["replicas"] = size
        rs.update(self.store.update("replicasets", rs))
        return not same

    def _clean_history(self, deployment: JsonObject, olds: Sets) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        live = [rs for rs in olds if not deleting(rs)]
        surplus = len(live) - int(limit)
        for rs in sorted(live, key=rolling.revision)[: max(0, surplus)]:
            unseen = rs["metadata"]["generation"] > status_count(rs, "observedGeneration")
            if status_count(rs, "replicas") or spec_replicas(rs) or unseen:
                continue
            self.store.delete("replicasets", *key_of(rs), uid=rs["metadata"]["uid"])

    # --- status ---------------------------------------------------------------------------------

    def _now(self) -> str:
        return self.cluster.wall.rfc3339()

    def _number(self, deployment: JsonObject, number: str) -> bool:
        notes = deployment["metadata"].setdefault("annotations", {})
        if notes.get(REVISION) == number:
            return False
        notes[REVISION] = number
        return True

    def _note(self, deployment: JsonObject, value: str, reason: str, message: str) -> bool:
        status = deployment.setdefault("status", {})
        return rollout_status.set_condition(
            status, self._now(), "Progressing", value, reason=reason, message=message
        )

    def _update_status(self, deployment: JsonObject) -> None:
        deployment.update(self.store.update("deployments", deployment, "status"))

    def _publish(self, deployment: JsonObject, status: JsonObject) -> None:
        if (deployment.get("status") or {}) != status:
            deployment["status"] = status
            self._update_status(deployment)


def _has_progress(deployment: JsonObject) -> bool:
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Progressing" for item in conditions)
