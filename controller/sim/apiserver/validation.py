# SPDX-License-Identifier: Apache-2.0
"""What is refused with a 422, kind by kind, with every cause at once.

Only what a progressive-delivery controller (or the people around it) can get wrong is checked;
each check is compared with the real API server by the contract tests.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from controller.sim.apiserver import checks, crd
from controller.sim.apiserver.checks import at_least, bad, denied, duplicate, missing, port
from controller.sim.apiserver.defaults import apply_defaults
from controller.sim.apiserver.errors import Cause, JsonObject, invalid
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.schema import schema_for
from controller.sim.apiserver.store import WHOLE

CONFIG_MAP_LIMIT = 1_048_576
"""Bytes that the values of a ConfigMap or Secret may have together, as in Kubernetes."""

Check = Callable[[JsonObject, JsonObject | None], list[Cause]]


class Strategy:
    """Defaults and validation for every kind; the store asks it before each write.

    `allow_loopback_endpoints` is the one deviation from the real server: a demo whose pods are
    local processes needs endpoints at 127.0.0.0/8, which Kubernetes refuses.
    """

    def __init__(self, *, allow_loopback_endpoints: bool = False) -> None:
        self._loopback = allow_loopback_endpoints
        self._addresses = _cluster_addresses()

    def prepare(
        self, resource: Resource, new: JsonObject, old: JsonObject | None, subresource: str
    ) -> None:
        """Complete `new` in place; raise ApiError 422 with every cause where it is not valid."""
        if subresource == "status":
            return
        apply_defaults(resource, new, old)
        if resource.key == "services":
            self._give_address(new)
        meta = new["metadata"]
        causes = checks.metadata(meta, label_name=resource.key in ("services", "namespaces"))
        if resource.custom:
            causes += crd.causes(schema_for(resource), new)
        else:
            causes += checks.enums(schema_for(resource), new)
        if resource.key == "endpointslices.discovery.k8s.io":
            causes += _slice(new, old, loopback=self._loopback)
        elif resource.key in _CHECKS:
            # A write of the whole object is the system's own (a binding): nothing is fixed for it.
            causes += _CHECKS[resource.key](new, None if subresource == WHOLE else old)
        if causes:
            raise invalid(resource.kind, resource.group, str(meta.get("name", "")), causes)

    def _give_address(self, service: JsonObject) -> None:
        spec = service["spec"]
        if spec.get("type") == "ExternalName" or spec.get("clusterIP"):
            return
        spec["clusterIP"] = next(self._addresses)
        spec["clusterIPs"] = [spec["clusterIP"]]


def _cluster_addresses() -> Iterator[str]:
    # The range that kubeadm and most test clusters use; never handed out twice.
    return (str(address) for address in ipaddress.ip_network("10.96.0.0/12").hosts())


def _template(spec: JsonObject) -> list[Cause]:
    template = spec.get("template") or {}
    found = _selector_matches(spec, template)
    pod = template.get("spec") or {}
    return found + _pod_spec(pod, "spec.template.spec")


def _selector_matches(spec: JsonObject, template: JsonObject) -> list[Cause]:
    found: list[Cause] = []
    selector = spec.get("selector")
    wanted = (selector or {}).get("matchLabels") or {}
    carried = (template.get("metadata") or {}).get("labels") or {}
    if selector is None:
        found.append(missing("spec.selector"))
    elif not wanted and not selector.get("matchExpressions"):
        why = "empty selector is invalid for deployment"
        found.append(bad("spec.selector", selector, why))
    found += checks.label_map("spec.template.labels", carried)
    if selector is None or not wanted.items() <= carried.items():
        why = "`selector` does not match template `labels`"
        found.append(bad("spec.template.metadata.labels", carried, why))
    return found


def _pod_spec(spec: JsonObject, path: str) -> list[Cause]:
    containers = spec.get("containers") or []
    found: list[Cause] = [] if containers else [missing(f"{path}.containers")]
    seen: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or []):
            where = f"{path}.{field}[{index}]"
            name = str(container.get("name", ""))
            found += checks.dns_label(f"{where}.name", name) if name else [missing(f"{where}.name")]
            if not container.get("image"):
                found.append(missing(f"{where}.image"))
            if name in seen:
                found.append(duplicate(f"{where}.name", name))
            seen.add(name)
            for number, entry in enumerate(container.get("ports") or []):
                found += port(f"{where}.ports[{number}].containerPort", entry.get("containerPort"))
    return found


def _immutable_selector(new: JsonObject, old: JsonObject | None) -> list[Cause]:
    selector = new["spec"].get("selector")
    if old is None or selector == old["spec"].get("selector"):
        return []
    return [bad("spec.selector", selector, "field is immutable")]


def _deployment(new: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = new["spec"]
    found = at_least("spec.replicas", spec.get("replicas"), 0) + _template(spec)
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate" and rolling is not None:
        why = "may not be specified when strategy `type` is 'Recreate'"
        found.append(denied("spec.strategy.rollingUpdate", why))
    if rolling is not None and all(
        str(rolling.get(name)).rstrip("%") == "0" for name in ("maxSurge", "maxUnavailable")
    ):
        why = "may not be 0 when `maxSurge` is 0"
        unavailable = rolling.get("maxUnavailable")
        found.append(bad("spec.strategy.rollingUpdate.maxUnavailable", unavailable, why))
    deadline, least = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if isinstance(deadline, int) and deadline <= least:
        why = "must be greater than minReadySeconds"
        found.append(bad("spec.progressDeadlineSeconds", deadline, why))
    return found + _immutable_selector(new, old)


def _replica_set(new: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = new["spec"]
    found = at_least("spec.replicas", spec.get("replicas"), 0) + _template(spec)
    return found + _immutable_selector(new, old)


_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")
"""Of a Job's template: where its pods may run, which a queue decides while it holds the Job."""


def _job(new: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = new["spec"]
    pod = (spec.get("template") or {}).get("spec") or {}
    found = _pod_spec(pod, "spec.template.spec")
    policy = pod.get("restartPolicy")
    if policy not in ("OnFailure", "Never"):
        where = "spec.template.spec.restartPolicy"
        found.append(missing(where, 'valid values: "OnFailure", "Never"'))
    if old is None:
        return found
    before = old["spec"]
    for name in ("completions", "selector", "completionMode"):
        if spec.get(name) != before.get(name):
            found.append(bad(f"spec.{name}", spec.get(name), "field is immutable"))
    waits = bool(before.get("suspend")) and "startTime" not in (old.get("status") or {})
    open_fields = _SCHEDULING if waits else ()
    if _held(spec["template"], open_fields) != _held(before["template"], open_fields):
        where = "spec.template.spec" if waits else "spec.template"
        found.append(bad(where, spec["template"], "field is immutable"))
    return found


def _held(template: JsonObject, open_fields: tuple[str, ...]) -> JsonObject:
    """A template without what may change now."""
    spec = {key: value for key, value in template["spec"].items() if key not in open_fields}
    return {"spec": spec} if open_fields else {**template, "spec": spec}


_POD_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def _pod(new: JsonObject, old: JsonObject | None) -> list[Cause]:
    found = _pod_spec(new["spec"], "spec")
    if old is not None and _fixed(new["spec"]) != _fixed(old["spec"]):
        why = (
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
        )
        found.append(denied("spec", why))
    return found


def _fixed(spec: JsonObject) -> JsonObject:
    out = {key: value for key, value in spec.items() if key not in _POD_MUTABLE}
    for field in ("containers", "initContainers"):
        listed = out.get(field) or []
        out[field] = [{k: v for k, v in item.items() if k != "image"} for item in listed]
    return out


def _service(new: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = new["spec"]
    ports = spec.get("ports") or []
    found: list[Cause] = []
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and spec.get("type") != "ExternalName":
        found.append(missing("spec.ports"))
    names: set[str] = set()
    for index, entry in enumerate(ports):
        where = f"spec.ports[{index}]"
        name = str(entry.get("name", ""))
        if not name and len(ports) > 1:
            found.append(missing(f"{where}.name"))
        elif name:
            found += checks.dns_label(f"{where}.name", name)
            if name in names:
                found.append(duplicate(f"{where}.name", name))
            names.add(name)
        found += port(f"{where}.port", entry.get("port", 0))
        found += port(f"{where}.targetPort", entry.get("targetPort"))
    found += checks.label_map("spec.selector", spec.get("selector") or {})
    before = ((old or {}).get("spec") or {}).get("clusterIPs")
    if before and spec.get("clusterIP") != before[0] and spec.get("type") != "ExternalName":
        given = [spec.get("clusterIP")]
        found.append(bad("spec.clusterIPs[0]", given, "may not change once set"))
    return found


def _config_map(new: JsonObject, old: JsonObject | None) -> list[Cause]:
    found: list[Cause] = []
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (new.get(field) or {}).items():
            size += len(str(value).encode())
            found += _config_key(f"{field}[{key}]", key)
    if size > CONFIG_MAP_LIMIT:
        # The field is the nameless root, which the real server prints as an empty list.
        found.append(checks.too_long("[]", CONFIG_MAP_LIMIT))
    if old is not None and old.get("immutable"):
        why = "field is immutable when `immutable` is set"
        found += [
            denied(field, why)
            for field in ("immutable", "data", "binaryData")
            if new.get(field) != old.get(field)
        ]
    return found


def _config_key(field: str, key: str) -> list[Cause]:
    if key in (".", "..") or key.startswith(".."):
        why = "must not be '..'" if key == ".." else "must not start with '..'"
        return [bad(field, key, why)]
    if re.fullmatch(r"[-._a-zA-Z0-9]+", key):
        return []
    why = (
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g."
        " 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is"
        " '[-._a-zA-Z0-9]+')"
    )
    return [bad(field, key, why)]


def _lease(new: JsonObject, _old: JsonObject | None) -> list[Cause]:
    spec = new.get("spec") or {}
    found: list[Cause] = []
    seconds = spec.get("leaseDurationSeconds")
    if isinstance(seconds, int) and seconds <= 0:
        found.append(bad("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    return found + at_least("spec.leaseTransitions", spec.get("leaseTransitions"), 0)


def _event(new: JsonObject, _old: JsonObject | None) -> list[Cause]:
    involved = (new.get("involvedObject") or {}).get("namespace", "")
    own = new["metadata"].get("namespace", "")
    if involved != own and not (not involved and own == "default"):
        return [bad("involvedObject.namespace", involved, "does not match event.namespace")]
    return []


def _address(field: str, text: str, *, loopback: bool) -> list[Cause]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return [bad(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    refusals = (
        (address.is_unspecified, f"may not be unspecified ({text})"),
        (
            address.is_loopback and not loopback,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            address.is_link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            address.is_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    )
    return [bad(field, text, why) for refused, why in refusals if refused]


def _slice(new: JsonObject, old: JsonObject | None, *, loopback: bool) -> list[Cause]:
    found: list[Cause] = []
    kind = new.get("addressType")
    if not kind:
        found.append(missing("addressType"))
    for index, endpoint in enumerate(new.get("endpoints") or []):
        where = f"endpoints[{index}].addresses"
        addresses = endpoint.get("addresses") or []
        if not addresses:
            found.append(missing(where))
        if kind in ("IPv4", "IPv6"):
            for number, text in enumerate(addresses):
                found += _address(f"{where}[{number}]", text, loopback=loopback)
    if old is not None and kind != old.get("addressType"):
        found.append(bad("addressType", None, "field is immutable"))
    return found


def _route(new: JsonObject, _old: JsonObject | None) -> list[Cause]:
    found: list[Cause] = []
    for index, rule in enumerate((new.get("spec") or {}).get("rules") or []):
        for number, backend in enumerate(rule.get("backendRefs") or []):
            service = not backend.get("group") and backend.get("kind", "Service") == "Service"
            if service and "port" not in backend:
                where = f"spec.rules[{index}].backendRefs[{number}]"
                message = "Invalid value: Must have port for Service reference"
                found.append(Cause(reason="FieldValueInvalid", message=message, field=where))
    return found


_CHECKS: dict[str, Check] = {
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "jobs.batch": _job,
    "pods": _pod,
    "services": _service,
    "configmaps": _config_map,
    "leases.coordination.k8s.io": _lease,
    "events": _event,
    "httproutes.gateway.networking.k8s.io": _route,
    "grpcroutes.gateway.networking.k8s.io": _route,
}
