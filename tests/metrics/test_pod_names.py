# SPDX-License-Identifier: Apache-2.0
"""Whose pod it is, by the form of its name alone; and which provider is asked for what."""

import re

import pytest

from controller.adapters.prometheus.names import LONGEST_PODS, PodNames
from controller.adapters.prometheus.providers import PodLabels, choose
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey

LABELS = PodLabels(namespace="namespace", pod="pod")
STABLE = PodsKey("shop", "checkout", "5d9c7b6f48")
NEW = PodsKey("shop", "checkout", "6f7c8d9b45")
CANARY = PodsKey("shop", "checkout-canary", "")


def keys(names: PodNames, pod: str, namespace: str = "shop") -> tuple[TrackKey, ...]:
    return names.keys({"namespace": namespace, "pod": pod})


def found(names: PodNames, pod: str, namespace: str = "shop") -> bool:
    """Whether the store would return the series of this pod."""
    text = names.matchers().replace("\\\\", "\\")
    match = re.fullmatch(r'namespace=~"(.*)",pod=~"(.*)"', text)
    assert match is not None
    return bool(re.fullmatch(match[1], namespace) and re.fullmatch(match[2], pod))


@pytest.mark.parametrize(
    ("pod", "key"),
    [
        ("checkout-5d9c7b6f48-x2x4z", STABLE),
        ("checkout-6f7c8d9b45-x2x4z", NEW),
        ("checkout-canary-6f7c8d9b45-x2x4z", CANARY),
        ("checkout-canary-7-x2x4z", CANARY),
        ("checkout-77c8d9b456-x2x4z", None),
        # A pod of a ReplicaSet, a Job or a StatefulSet of that name.
        ("checkout-canary-x2x4z", None),
        ("checkout-canary-0", None),
        # A Deployment whose name begins alike.
        ("checkout-v2-5d9c7b6f48-x2x4z", None),
        ("checkout-canary-api-5d9c7b6f48-x2x4z", None),
        ("my-checkout-5d9c7b6f48-x2x4z", None),
        ("checkout-5d9c7b6f48", None),
        ("checkout-5d9c7b6f48-x2x4zz", None),
        ("checkout-5d9c7b6f48-x2x4", None),
        ("", None),
    ],
)
def test_the_form_of_a_name_says_whose_pod_it_is(pod: str, key: PodsKey | None) -> None:
    names = PodNames(LABELS, [STABLE, NEW, CANARY])
    assert keys(names, pod) == (() if key is None else (key,))
    assert keys(names, pod, "bank") == ()
    if key is not None:
        assert found(names, pod)
        assert not found(names, pod, "bank")


def test_an_open_hash_takes_the_deployments_own_pods_and_no_namesakes() -> None:
    names = PodNames(LABELS, [PodsKey("shop", "checkout", ""), CANARY])
    assert keys(names, "checkout-5d9c7b6f48-x2x4z") == (PodsKey("shop", "checkout", ""),)
    assert keys(names, "checkout-canary-5d9c7b6f48-x2x4z") == (CANARY,)
    both = PodNames(LABELS, [PodsKey("shop", "checkout", ""), STABLE])
    assert keys(both, "checkout-5d9c7b6f48-x2x4z") == (STABLE, PodsKey("shop", "checkout", ""))


def test_a_deployment_with_a_dot_in_its_name_takes_no_others_pods() -> None:
    names = PodNames(LABELS, [PodsKey("shop", "check.out", "")])
    assert keys(names, "check.out-5d9c7b6f48-x2x4z")
    assert not keys(names, "checkyout-5d9c7b6f48-x2x4z")
    # What a check's query finds is sorted by nobody.
    (pattern,) = re.findall(r'pod=~"(.*)"', names.matchers(exact=True))
    assert re.fullmatch(pattern, "check.out-5d9c7b6f48-x2x4z")
    assert not re.fullmatch(pattern, "checkyout-5d9c7b6f48-x2x4z")


def test_names_that_kubernetes_cuts_get_no_data_and_a_warning() -> None:
    """A pod's name has at most 63 characters; beyond it the hash is cut, and both versions look
    alike.
    """
    short, long = PodsKey("shop", "x" * 46, "5d9c7b6f48"), PodsKey("shop", "x" * 47, "5d9c7b6f48")
    names = PodNames(LABELS, [short, long])
    assert keys(names, f"{'x' * 46}-5d9c7b6f48-x2x4z") == (short,)
    assert keys(names, f"{'x' * 47}-5d9c7b6f48-x2x4z") == ()
    (warning,) = names.unreadable
    assert "Kubernetes cuts the hash" in warning
    assert "x" * 47 in warning


def test_many_runs_are_asked_for_by_name_and_very_many_by_namespace() -> None:
    def crowd(count: int) -> PodNames:
        return PodNames(LABELS, [PodsKey("shop", f"service-{n}-canary", "") for n in range(count)])

    assert not found(crowd(200), "checkout-5d9c7b6f48-x2x4z")
    many = crowd(2000)
    assert len(many.matchers()) < LONGEST_PODS
    assert found(many, "service-7-canary-5d9c7b6f48-x2x4z")
    assert found(many, "checkout-5d9c7b6f48-x2x4z")
    assert not found(many, "checkout-5d9c7b6f48-x2x4z", "bank")


@pytest.mark.parametrize(
    "key",
    [
        PodsKey("shop", 'x"} or vector(1)', "5d9c7b6f48"),
        PodsKey("shop", "checkout", "("),
        PodsKey("", "checkout", ""),
    ],
)
def test_a_name_that_kubernetes_would_refuse_never_reaches_a_query(key: PodsKey) -> None:
    with pytest.raises(ValueError, match="no name"):
        PodNames(LABELS, [key])


@pytest.mark.parametrize(
    ("auto", "key", "provider"),
    [
        (["traefik", "application"], ServiceKey("shop", "x"), "traefik"),
        (["application", "traefik"], ServiceKey("shop", "x"), "traefik"),
        (["envoy", "traefik"], ServiceKey("shop", "x"), "envoy"),
        (["traefik", "opentelemetry", "application"], STABLE, "opentelemetry"),
        (["traefik"], STABLE, None),
        ([], ServiceKey("shop", "x"), None),
        # What a policy names is asked, whatever the daemon would choose.
        (["traefik"], ServiceKey("shop", "x", "envoy"), "envoy"),
        (["traefik"], PodsKey("shop", "x", "", "application"), "application"),
        (["traefik"], PodsKey("shop", "x", "", "traefik"), None),
        (["traefik"], ServiceKey("shop", "x", "unknown"), None),
    ],
)
def test_which_provider_is_asked(auto: list[str], key: TrackKey, provider: str | None) -> None:
    asked = choose(auto).of(key)
    assert (asked.name if asked else None) == provider
