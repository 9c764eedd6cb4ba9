# SPDX-License-Identifier: Apache-2.0
"""The EndpointSlice controller: which addresses a Service leads to, told a little late.

The delay is the point: between a pod's death and its leaving the slice, requests fail.  A slice is
written only if it changed, so that pinning a Service to the pods it selects anyway changes nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.store import Event, Store, clone
from controller.sim.controllers.base import Controller, Name
from controller.sim.controllers.objects import (
    controller_of,
    controller_ref,
    deleting,
    key_of,
    labels,
    notes_of,
    pod_ready,
)

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"

# The real controller's default number of endpoints in one slice.
SLICE_SIZE = 100


class EndpointSliceController(Controller[Name]):
    """Keeps the slices of every Service that has a selector."""

    latency: ClassVar[tuple[float, float]] = (0.01, 0.05)

    def observe(self, event: Event) -> None:
        """A Service, a pod whose labels or state matter to one, or a slice of one."""
        match event.resource.key:
            case "services":
                self.enqueue(key_of(event.obj))
            case "pods":
                self._services_of(event)
            case "endpointslices.discovery.k8s.io":
                owner = labels(event.obj).get(SERVICE_NAME)
                if owner and labels(event.obj).get(MANAGED_BY) == CONTROLLER:
                    self.enqueue((event.namespace, owner))
            case _:
                pass

    def _services_of(self, event: Event) -> None:
        seen = [labels(event.obj)]
        if event.previous is not None and labels(event.previous) != seen[0]:
            seen.append(labels(event.previous))
        for service in self.store.scan("services", event.namespace):
            selector = service["spec"].get("selector") or {}
            if selector and any(selector.items() <= have.items() for have in seen):
                self.enqueue(key_of(service))

    def sync(self, key: Name) -> None:
        """Write the slices that differ from what the pods say."""
        service = self.store.peek("services", *key)
        if service is None or not service["spec"].get("selector") or deleting(service):
            return
        wanted = self._wanted(service)
        present = [
            clone(item)
            for item in self.store.scan("endpointslices", key[0])
            if _owned(item, service) and not deleting(item)
        ]
        for at, (endpoints, ports) in enumerate(wanted):
            if at < len(present):
                self._refresh(service, present[at], endpoints, ports)
            else:
                self._create(service, endpoints, ports)
        for surplus in present[len(wanted) :]:
            self.store.delete("endpointslices", *key_of(surplus))

    def _wanted(self, service: JsonObject) -> list[tuple[list[JsonObject], list[JsonObject]]]:
        """The content of each slice, pods of one set of resolved ports together."""
        groups: dict[str, tuple[list[JsonObject], list[JsonObject]]] = {}
        selector = service["spec"]["selector"]
        unready_too = bool(service["spec"].get("publishNotReadyAddresses"))
        for pod in self.store.scan("pods", key_of(service)[0]):
            if not selector.items() <= labels(pod).items() or not _has_address(pod):
                continue
            ports = _ports(service, pod)
            group = groups.setdefault(repr(ports), ([], ports))
            group[0].append(_endpoint(pod, unready_too=unready_too))
        slices = [
            (endpoints[at : at + SLICE_SIZE], ports)
            for endpoints, ports in groups.values()
            for at in range(0, len(endpoints), SLICE_SIZE)
        ]
        # A Service without pods keeps one empty slice, as a sign that it was looked at.
        return slices or [([], [])]

    def _create(
        self, service: JsonObject, endpoints: list[JsonObject], ports: list[JsonObject]
    ) -> None:
        namespace, name = key_of(service)
        body: JsonObject = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": f"{name}-",
                "labels": _slice_labels(service),
                "annotations": {TRIGGER: self.cluster.wall.rfc3339()},
                "ownerReferences": [controller_ref(service)],
            },
            "addressType": "IPv4",
            # A Go slice that was never filled is written as null, and readers must bear it.
            "endpoints": endpoints or None,
            "ports": ports or None,
        }
        self.store.create("endpointslices", namespace, body)

    def _refresh(
        self,
        service: JsonObject,
        present: JsonObject,
        endpoints: list[JsonObject],
        ports: list[JsonObject],
    ) -> None:
        wanted_labels = _slice_labels(service)
        same = (
            (present.get("endpoints") or []) == endpoints
            and (present.get("ports") or []) == ports
            and labels(present) == wanted_labels
        )
        if same:
            return
        present["metadata"]["labels"] = wanted_labels
        present["metadata"]["annotations"] = {
            **notes_of(present),
            TRIGGER: self.cluster.wall.rfc3339(),
        }
        present["endpoints"], present["ports"] = endpoints or None, ports or None
        self.store.update("endpointslices", present)


def service_of(item: JsonObject) -> Name | None:
    """Namespace and name of the Service that a slice belongs to."""
    name = labels(item).get(SERVICE_NAME)
    return (item["metadata"]["namespace"], name) if name else None


def ready_addresses(store: Store, service: Name) -> tuple[str, ...]:
    """The addresses that a proxy sends to now: those that are ready, in all slices of a Service."""
    return tuple(
        endpoint["addresses"][0]
        for item in store.scan("endpointslices", service[0])
        if service_of(item) == service
        for endpoint in item.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready")
    )


def _owned(item: JsonObject, service: JsonObject) -> bool:
    ref = controller_of(item)
    return (
        labels(item).get(SERVICE_NAME) == key_of(service)[1]
        and labels(item).get(MANAGED_BY) == CONTROLLER
        and (ref is None or ref["uid"] == service["metadata"]["uid"])
    )


def _slice_labels(service: JsonObject) -> dict[str, str]:
    """The labels of the Service, mirrored, and those of the controller."""
    mirrored = {k: v for k, v in labels(service).items() if k not in {SERVICE_NAME, HEADLESS}}
    fixed = {SERVICE_NAME: key_of(service)[1], MANAGED_BY: CONTROLLER}
    if service["spec"].get("clusterIP") == "None":
        fixed[HEADLESS] = ""
    return {**mirrored, **fixed}


def _has_address(pod: JsonObject) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in {"Succeeded", "Failed"}


def _endpoint(pod: JsonObject, *, unready_too: bool) -> JsonObject:
    serving, terminating = pod_ready(pod), deleting(pod)
    namespace, name = key_of(pod)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": unready_too or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {
            "kind": "Pod",
            "name": name,
            "namespace": namespace,
            "uid": pod["metadata"]["uid"],
        },
    }


def _ports(service: JsonObject, pod: JsonObject) -> list[JsonObject]:
    found: list[JsonObject] = []
    for port in service["spec"].get("ports") or ():
        number = _target(port.get("targetPort") or port["port"], pod)
        if number is not None:
            protocol = port.get("protocol", "TCP")
            item: JsonObject = {"name": port.get("name", ""), "protocol": protocol, "port": number}
            if port.get("appProtocol"):
                item["appProtocol"] = port["appProtocol"]
            found.append(item)
    return found


def _target(target: Any, pod: JsonObject) -> int | None:
    """A target port resolved against the named ports of a pod, or None if it has no such port."""
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                return int(port["containerPort"])
    return None
