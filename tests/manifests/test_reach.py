# SPDX-License-Identifier: Apache-2.0
"""The judge of network policies, by policies whose meaning Kubernetes' documentation spells out."""

import pytest

from tests.manifests.reach import Flow, Party, chosen, narrowed, passes
from tests.manifests.rendered import Json

OURS = {"app": "us"}
PROMETHEUS = Party(namespace="monitoring", labels={"app": "prometheus"})
TWIN = Party(namespace="here", labels=OURS)
OUTSIDE = Party(address="192.0.2.7")


def policy(*egress: Json, ingress: list[Json] | None = None) -> Json:
    spec: Json = {"podSelector": {"matchLabels": OURS}, "policyTypes": ["Egress"]}
    spec["egress"] = list(egress)
    if ingress is not None:
        spec |= {"policyTypes": ["Ingress", "Egress"], "ingress": ingress}
    return {"metadata": {"namespace": "here"}, "spec": spec}


def to(other: Party, port: int = 9090, protocol: str = "TCP") -> Flow:
    return Flow(way="egress", other=other, port=port, protocol=protocol)


def test_without_a_rule_nothing_passes_and_an_empty_rule_lets_everything_pass() -> None:
    assert not passes(policy(), to(OUTSIDE))
    assert passes(policy({}), to(OUTSIDE))


def test_a_way_that_the_policy_is_not_about_is_open() -> None:
    flow = Flow(way="ingress", other=OUTSIDE, port=1)
    assert passes(policy(), flow)
    assert not passes(policy(ingress=[]), flow)


def test_ports_are_compared_with_their_protocol() -> None:
    rule = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 9090}]}
    assert passes(policy(rule), to(OUTSIDE, 53, "UDP"))
    assert not passes(policy(rule), to(OUTSIDE, 53))
    assert passes(policy(rule), to(OUTSIDE))


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ({"namespaceSelector": {}}, {"prometheus", "twin"}),
        ({"podSelector": {}}, {"twin"}),
        ({"podSelector": {"matchLabels": OURS}}, {"twin"}),
        ({"podSelector": {"matchLabels": {"app": "prometheus"}}}, set()),
        (
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
                "podSelector": {"matchLabels": {"app": "prometheus"}},
            },
            {"prometheus"},
        ),
        ({"ipBlock": {"cidr": "192.0.2.0/24"}}, {"outside"}),
        ({"ipBlock": {"cidr": "192.0.2.8/32"}}, set()),
    ],
)
def test_peers(peer: Json, found: set[str]) -> None:
    """A selector of pods alone means the policy's own namespace; none of them means no pod."""
    parties = {"prometheus": PROMETHEUS, "twin": TWIN, "outside": OUTSIDE}
    rule = policy({"to": [peer]})
    assert {name for name, party in parties.items() if passes(rule, to(party))} == found


def test_port_and_peer_are_asked_of_the_same_rule() -> None:
    rules = (
        {"ports": [{"port": 9090}], "to": [{"podSelector": {}}]},
        {"ports": [{"port": 80}], "to": [{"namespaceSelector": {}}]},
    )
    assert not passes(policy(*rules), to(PROMETHEUS))


def test_it_is_for_pods_of_its_namespace_with_its_labels() -> None:
    assert chosen(policy(), "here", {**OURS, "more": "x"})
    assert not chosen(policy(), "there", OURS)
    assert not chosen(policy(), "here", {"app": "other"})


def test_what_is_not_understood_is_not_judged() -> None:
    rules: tuple[Json, ...] = (
        {"ports": [{"port": 1, "endPort": 9}]},
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]},
        {"to": [{"podSelector": {"matchExpressions": []}}]},
    )
    for rule in rules:
        with pytest.raises(AssertionError, match="no judgement"):
            passes(policy(rule), to(TWIN, 1))


def test_every_part_is_left_out_once() -> None:
    rule: Json = {"ports": [{"port": 1}, {"port": 2}], "to": [{"podSelector": {}}]}
    told = [words for words, _ in narrowed(policy(rule, ingress=[{}]))]
    assert told == ["ingress 0", "egress 0", "egress 0: {'port': 1}", "egress 0: {'port': 2}"]
