# SPDX-License-Identifier: Apache-2.0
"""Effects on Deployments and ReplicaSets.

Each write carries the uid of what was looked at. Where a template decides whether the write is
right, the template itself is the precondition: a status update in between does no harm.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from controller.adapters.kube import paths, twins
from controller.adapters.kube.calls import MERGE_PATCH, AlreadyExists, Calls, every
from controller.adapters.kube.objects import is_ours, template_digest
from controller.core.errors import Conflict, Missing, Refused
from controller.core.values import HASH_LABEL, PREFIX, TargetRef

Json: TypeAlias = dict[str, Any]

HOLD: Final = PREFIX + "hold"
HOLD_PATH: Final = "/metadata/annotations/" + HOLD.replace("/", "~1")


def _test(path: str, value: object) -> Json:
    return {"op": "test", "path": path, "value": value}


class Workloads:
    """Deployments and ReplicaSets of targets."""

    def __init__(self, calls: Calls) -> None:
        """Speak over `calls`."""
        self._calls = calls

    async def live(self, target: TargetRef, uid: str) -> Json:
        """The Deployment by a quorum read. Raises `Conflict` if it is another one by now."""
        found = await self._calls.get(paths.apps(target.namespace, "deployments", target.name))
        if found["metadata"]["uid"] != uid:
            raise Conflict(f"Deployment {target} was deleted and created again")
        return found

    async def pause(self, target: TargetRef, uid: str, why: str) -> str:
        """Stop the native roll. A merge patch, so that it needs no look at what is there."""
        body = {
            "metadata": {"uid": uid, "annotations": {HOLD: why}},
            "spec": {"paused": True},
        }
        path = paths.apps(target.namespace, "deployments", target.name)
        await self._calls.patch(path, body, kind=MERGE_PATCH)
        return f"paused Deployment {target}"

    async def resume(self, target: TargetRef, uid: str, digest: str) -> str:
        """Unpause, if the template is the one that was decided on."""
        live = await self.live(target, uid)
        template = live["spec"]["template"]
        if template_digest(template) != digest:
            raise Conflict(f"the template of Deployment {target} is another one by now")
        patch = [_test("/metadata/uid", uid), _test("/spec/template", template), *_unpause(live)]
        if len(patch) > 2:
            path = paths.apps(target.namespace, "deployments", target.name)
            await self._calls.patch(path, patch)
        return f"unpaused Deployment {target}"

    async def revert(self, target: TargetRef, uid: str, replica_set: str) -> str:
        """Put the template of a ReplicaSet back and unpause."""
        live = await self.live(target, uid)
        found = await self._calls.get(paths.apps(target.namespace, "replicasets", replica_set))
        owners = found["metadata"].get("ownerReferences") or ()
        if not any(owner.get("uid") == uid for owner in owners):
            raise Conflict(f"ReplicaSet {replica_set} does not belong to Deployment {target}")
        template = found["spec"]["template"]
        meta = dict(template.get("metadata") or {})
        labels = meta.get("labels") or {}
        meta["labels"] = {key: value for key, value in labels.items() if key != HASH_LABEL}
        patch = [
            _test("/metadata/uid", uid),
            _test("/spec/template", live["spec"]["template"]),
            {"op": "replace", "path": "/spec/template", "value": {**template, "metadata": meta}},
            *_unpause(live),
        ]
        await self._calls.patch(paths.apps(target.namespace, "deployments", target.name), patch)
        return f"Deployment {target} is back on the template of {replica_set}"

    async def annotate(
        self, target: TargetRef, uid: str, annotations: Mapping[str, str | None]
    ) -> str:
        """Set or remove annotations below our prefix."""
        named = {PREFIX + key: value for key, value in annotations.items()}
        body = {"metadata": {"uid": uid, "annotations": named}}
        path = paths.apps(target.namespace, "deployments", target.name)
        await self._calls.patch(path, body, kind=MERGE_PATCH)
        return f"annotated Deployment {target}: {', '.join(sorted(annotations))}"

    async def scale(self, namespace: str, plural: str, name: str, uid: str, count: int) -> str:
        """Set the number of replicas."""
        patch = [
            _test("/metadata/uid", uid),
            {"op": "replace", "path": "/spec/replicas", "value": count},
        ]
        await self._calls.patch(paths.apps(namespace, plural, name), patch)
        return f"scaled {plural} {namespace}/{name} to {count}"

    async def delete_pods(self, target: TargetRef, pods: Sequence[tuple[str, str]]) -> str:
        """Delete these pods, each by its uid; all are tried, the first failure is raised then."""
        await every(
            delete(self._calls, paths.core(target.namespace, "pods", name), uid)
            for name, uid in pods
        )
        return f"deleted pods {', '.join(name for name, _ in pods)}"

    async def create_canary(self, target: TargetRef, owner_uid: str, digest: str) -> str:
        """Create the twin at 0 replicas, from the live template if that is the one wanted."""
        live = await self.live(target, owner_uid)
        if template_digest(live["spec"]["template"]) != digest:
            raise Conflict(f"the template of Deployment {target} is another one by now")
        body = twins.canary_deployment(live)
        await create_twin(self._calls, paths.apps(target.namespace, "deployments"), body, owner_uid)
        return f"created Deployment {target.namespace}/{target.canary} at 0"

    async def own_canary(self, target: TargetRef, uid: str, owner_uid: str) -> str:
        """Put the owner of the twin back; whatever else somebody named there is no owner of it."""
        patch = [
            _test("/metadata/uid", uid),
            {
                "op": "add",
                "path": "/metadata/ownerReferences",
                "value": [twins.owner(target.name, owner_uid)],
            },
        ]
        await self._calls.patch(paths.apps(target.namespace, "deployments", target.canary), patch)
        return f"Deployment {target.namespace}/{target.canary} is owned by {target.name} again"


def _unpause(live: Json) -> list[Json]:
    """Take the pause and our note of it off, as far as they are there."""
    patch: list[Json] = []
    if "paused" in live["spec"]:
        patch.append({"op": "remove", "path": "/spec/paused"})
    if HOLD in (live["metadata"].get("annotations") or {}):
        patch.append({"op": "remove", "path": HOLD_PATH})
    return patch


async def create_twin(calls: Calls, collection: str, body: Json, owner_uid: str) -> None:
    """Create an object of ours; one of ours with the same owner that is there already will do.

    Raises `Refused` for somebody else's object under the name, and `Conflict` for a twin that an
    earlier Deployment left behind and that is still being removed.
    """
    try:
        await calls.post(collection, body)
    except AlreadyExists as error:
        name = body["metadata"]["name"]
        found = (await calls.get(f"{collection}/{name}"))["metadata"]
        if not is_ours(found.get("labels")):
            raise Refused(
                f"{body['kind']} {found['namespace']}/{name} exists and is not ours",
                advice="Rename it, or remove the policy annotation",
            ) from error
        owners = [owner.get("uid") for owner in found.get("ownerReferences") or ()]
        if owner_uid not in owners or found.get("deletionTimestamp"):
            raise Conflict(f"an older {body['kind']} {name} is still being removed") from error


async def delete(calls: Calls, path: str, uid: str, *, orphan: bool = False) -> str:
    """Delete exactly this object. If it is gone, or a namesake stands there, it is done."""
    try:
        await calls.delete(path, uid=uid, orphan=orphan)
    except (Missing, Conflict):
        return f"{path} was gone already"
    return f"deleted {path}{' and left its pods' if orphan else ''}"
