# SPDX-License-Identifier: Apache-2.0
"""Subresources that are actions: binding and eviction of pods, tokens of service accounts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from controller.sim.apiserver import errors, tokens
from controller.sim.apiserver.decode import parse
from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.request import Request, Target
from controller.sim.apiserver.store import WHOLE, Store, rfc3339

Handled = tuple[int, JsonObject]


def _require(store: Store, target: Target) -> JsonObject:
    found = store.get(target.resource, target.namespace, target.name)
    if found is None:
        raise errors.not_found(target.resource.plural, target.resource.group, target.name)
    return found


def bind(store: Store, request: Request, target: Target) -> Handled:
    """Put a pod on a node. Raises ApiError 404, 409 when it is on one already."""
    binding = parse(request.body, request.content_type, "Binding")
    pod = _require(store, target)
    if pod["spec"].get("nodeName"):
        why = f'pod {target.name} is already assigned to node "{pod["spec"]["nodeName"]}"'
        raise errors.conflict("pods/binding", "", target.name, why)
    pod["spec"]["nodeName"] = (binding.get("target") or {}).get("name", "")
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": rfc3339(store.clock()),
    }
    listed = pod.setdefault("status", {}).setdefault("conditions", [])
    listed[:] = [one for one in listed if one["type"] != "PodScheduled"] + [scheduled]
    # Assigning a node is not a change of the spec that the owner asked for.
    store.update("pods", pod, WHOLE)
    return 201, _done()


def evict(store: Store, request: Request, target: Target) -> Handled:
    """Delete a pod unless a disruption budget forbids it. Raises ApiError 404, 429."""
    options = parse(request.body, request.content_type, "Eviction").get("deleteOptions") or {}
    pod = _require(store, target)
    labels = (pod["metadata"].get("labels") or {}).items()
    for budget in store.list("poddisruptionbudgets", target.namespace):
        wanted = (budget["spec"].get("selector") or {}).get("matchLabels") or {}
        allowed = (budget.get("status") or {}).get("disruptionsAllowed", 0)
        if wanted and wanted.items() <= labels and allowed <= 0:
            text = "Cannot evict pod as it would violate the pod's disruption budget."
            raise ApiError(429, "TooManyRequests", text)
    grace = options.get("gracePeriodSeconds")
    store.delete("pods", target.namespace, target.name, grace=grace)
    return 201, _done()


def issue_token(store: Store, request: Request, target: Target) -> Handled:
    """Return a token of a service account, which a TokenReview knows; it does not expire."""
    asked = parse(request.body, request.content_type, "TokenRequest")
    account = _require(store, target)
    spec = asked.get("spec") or {}
    expires = store.clock() + timedelta(seconds=int(spec.get("expirationSeconds") or 3600))
    head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}}
    token = tokens.issued(account["metadata"], tuple(spec.get("audiences") or ()))
    status = {"token": token, "expirationTimestamp": rfc3339(expires)}
    return 201, {**head, "spec": spec, "status": status}


def _done() -> JsonObject:
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    return {**head, "status": "Success", "code": 201}


HANDLERS: dict[str, Callable[[Store, Request, Target], Handled]] = {
    "binding": bind,
    "eviction": evict,
    "token": issue_token,
}
