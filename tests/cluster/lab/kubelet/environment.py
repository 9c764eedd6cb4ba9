# SPDX-License-Identifier: Apache-2.0
"""A container's environment and arguments as its manifest describes them."""

import re
from collections.abc import Awaitable, Callable, Mapping

from tests.cluster.lab.api import Object

Read = Callable[[str, str], Awaitable[Object | None]]
"""Reads `configmaps` or `secrets` of the pod's namespace by name; None if it is not there."""

_LABELLED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class NotThere(Exception):
    """The manifest names something that does not exist (yet); kubelets call it a config error."""


async def of(container: Object, pod: Object, address: str, read: Read) -> dict[str, str]:
    """The variables in the order of the manifest; raises NotThere."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        kind, name = _named(source)
        content = await read(kind, name)
        found.update((content or {}).get("data") or {})
    for item in container.get("env", ()):
        if "valueFrom" in item:
            value = await _from(item["valueFrom"], pod, address, read)
        else:
            value = expanded(str(item.get("value", "")), found)
        found[item["name"]] = value
    return found


def expanded(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by a variable that stands further up; unknown names stay."""
    return _REFERENCE.sub(lambda match: env.get(match[1], match[0]), text)


def field(pod: Object, address: str, path: str) -> str:
    """What a `fieldRef` stands for; raises NotThere."""
    labelled = _LABELLED.fullmatch(path)
    if labelled:
        return str((pod["metadata"].get(labelled[1]) or {}).get(labelled[2], ""))
    values: dict[str, str] = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "metadata.uid": pod["metadata"]["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": address,
        "status.podIPs": address,
        "status.hostIP": "10.77.0.11",
    }
    if path not in values:
        raise NotThere(f"fieldRef {path}")
    return values[path]


def _named(source: Object) -> tuple[str, str]:
    kind = "configmaps" if "configMapRef" in source else "secrets"
    return kind, (source.get("configMapRef") or source["secretRef"])["name"]


async def _from(source: Object, pod: Object, address: str, read: Read) -> str:
    if "fieldRef" in source:
        return field(pod, address, source["fieldRef"]["fieldPath"])
    for key, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if key in source:
            wanted = source[key]
            content = ((await read(kind, wanted["name"])) or {}).get("data") or {}
            if wanted["key"] not in content and not wanted.get("optional"):
                raise NotThere(f"{kind[:-1]} {wanted['name']} has no {wanted['key']}")
            return str(content.get(wanted["key"], ""))
    return ""  # resourceFieldRef: nothing here is limited.
