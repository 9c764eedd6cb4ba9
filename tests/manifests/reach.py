# SPDX-License-Identifier: Apache-2.0
"""What a NetworkPolicy lets through: as much of its meaning as ours use, and no more.

Whatever a policy says that is not understood here is an error, so that nobody trusts a judgement
that left a part of it out.
"""

import copy
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.manifests.rendered import Json

NAME: Final = "kubernetes.io/metadata.name"
"""The one label that every namespace has."""

WAYS: Final = {"ingress": "from", "egress": "to"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who is at the other end: a pod, or an address that is no pod's."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One connection, as a network plugin sees it."""

    way: str
    """`ingress` or `egress` of the pod that the policy is for."""
    other: Party
    port: int
    protocol: str = "TCP"


def chosen(policy: Json, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether the policy is for this pod."""
    here: str = policy["metadata"]["namespace"]
    return here == namespace and _matches(policy["spec"]["podSelector"], labels)


def passes(policy: Json, flow: Flow) -> bool:
    """Whether the pods that the policy is for may have this connection."""
    _known(policy["spec"], "podSelector", "policyTypes", *WAYS)
    if flow.way.capitalize() not in policy["spec"]["policyTypes"]:
        return True
    return any(_admits(policy, flow, rule) for rule in policy["spec"].get(flow.way) or ())


def narrowed(policy: Json) -> Iterator[tuple[str, Json]]:
    """The policy with one rule, port or peer less, and what was left out."""
    for way, peers in WAYS.items():
        for number, rule in enumerate(policy["spec"].get(way) or ()):
            less = copy.deepcopy(policy)
            del less["spec"][way][number]
            yield f"{way} {number}", less
            for part in ("ports", peers):
                # The last one is left alone: a rule without any says something else.
                for index in range(len(rule.get(part, ())) if len(rule.get(part, ())) > 1 else 0):
                    less = copy.deepcopy(policy)
                    left_out = less["spec"][way][number][part].pop(index)
                    yield f"{way} {number}: {left_out}", less


def _admits(policy: Json, flow: Flow, rule: Json) -> bool:
    peers = WAYS[flow.way]
    _known(rule, "ports", peers)
    return any(_port(port, flow) for port in rule.get("ports", [{}])) and any(
        _peer(policy, peer, flow.other) for peer in rule.get(peers, [{}])
    )


def _port(port: Json, flow: Flow) -> bool:
    _known(port, "port", "protocol")
    number, protocol = port.get("port", flow.port), port.get("protocol", "TCP")
    return bool(number == flow.port and protocol == flow.protocol)


def _peer(policy: Json, peer: Json, other: Party) -> bool:
    """An empty one is anybody, which is how a rule without peers is asked."""
    _known(peer, "ipBlock", "namespaceSelector", "podSelector")
    if not peer:
        return True
    if "ipBlock" in peer:
        _known(peer["ipBlock"], "cidr")
        network = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return bool(other.address) and ipaddress.ip_address(other.address) in network
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        inside = _matches(peer["namespaceSelector"], {NAME: other.namespace})
    else:
        inside = other.namespace == policy["metadata"]["namespace"]
    return inside and _matches(peer.get("podSelector", {}), other.labels)


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    _known(selector, "matchLabels")
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _known(found: Json, *names: str) -> None:
    unknown = found.keys() - set(names)
    assert not unknown, f"no judgement without {unknown}"
