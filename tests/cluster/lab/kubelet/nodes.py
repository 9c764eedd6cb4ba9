# SPDX-License-Identifier: Apache-2.0
"""Nodes, and the choice of one for a pod: a scheduler as small as the tests allow.

It knows cordons, node selectors and the requests for CPU and memory. It does not know affinity,
spread, taints or priorities: a test that is about these needs another lab.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tests.cluster.lab.api import Api, Object
from tests.cluster.lab.kubelet.times import now
from tests.support.dialects import MERGE

NODES: Final = {"lab-1": "10.77.0.11", "lab-2": "10.77.0.12"}
"""Two, so that a drained node's pods have somewhere to go."""

CAPACITY: Final = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
"""Far beyond what the machine has: what pods ask for is only a figure here."""

_SUFFIXES: Final = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


async def register(api: Api) -> None:
    """Make the nodes, Ready for as long as the lab lives."""
    for name, address in NODES.items():
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
        await api.make("/api/v1/nodes", node)
        ready = {"type": "Ready", "status": "True", "reason": "Lab", "message": "always"}
        times = {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
        status = {
            "conditions": [{**ready, **times}],
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ],
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "nodeInfo": {
                **dict.fromkeys(("machineID", "systemUUID", "bootID"), "lab"),
                **dict.fromkeys(("kernelVersion", "osImage", "containerRuntimeVersion"), "lab"),
                **dict.fromkeys(("kubeletVersion", "kubeProxyVersion"), "lab"),
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        }
        await api.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, mime=MERGE)


def quantity(text: object) -> float:
    """The number that a quantity such as `250m` or `1Gi` stands for; raises ValueError."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    if found is None or found[2] not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _SUFFIXES[found[2]]


def requests(pod: Object) -> Counter[str]:
    """What the containers of a pod ask for."""
    found: Counter[str] = Counter({"pods": 1})
    for container in pod["spec"]["containers"]:
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            found[name] += quantity(amount)  # type: ignore[assignment]
    return found


def choose(pod: Object, nodes: Iterable[Object], placed: Iterable[Object]) -> str | None:
    """The name of the node with the fewest pods that may take this one; None if there is none."""
    used: dict[str, Counter[str]] = {}
    for other in placed:
        used.setdefault(other["spec"]["nodeName"], Counter()).update(requests(other))
    fitting = [
        (used.get(node["metadata"]["name"], Counter())["pods"], node["metadata"]["name"])
        for node in nodes
        if not node["spec"].get("unschedulable")
        and _selected(pod, node)
        and _fits(pod, node, used.get(node["metadata"]["name"], Counter()))
    ]
    return min(fitting)[1] if fitting else None


def _selected(pod: Object, node: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    return (pod["spec"].get("nodeSelector") or {}).items() <= labels.items()


def _fits(pod: Object, node: Object, used: Counter[str]) -> bool:
    room = node["status"].get("allocatable") or {}
    return all(
        used[name] + amount <= quantity(room.get(name, 0)) for name, amount in requests(pod).items()
    )
