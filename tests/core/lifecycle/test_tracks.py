# SPDX-License-Identifier: Apache-2.0
"""Which counters stand for which version, in every shape of a run."""

from dataclasses import replace

import pytest

from controller.core.evidence.series import PodsKey, ServiceKey
from controller.core.lifecycle.memory import Lane, Run
from controller.core.lifecycle.table import Phase
from controller.core.lifecycle.tracks import Tracks, checked_by, pods_of, stable_of, tracks_of
from controller.core.policy.model import Traffic
from controller.core.values import RouteRef, TargetRef

RUN = Run(
    name="r1",
    target=TargetRef("shop", "checkout"),
    uid="u1",
    stable_hash="5d9c7b6f48",
    stable_digest="old",
    digest="new",
)
ROUTE = RouteRef("HTTPRoute", "shop", "checkout")


def lane(service: str) -> Lane:
    return Lane(route=ROUTE, uid="r", service=service, original=())


def named(run: Run, provider: str) -> Run:
    return replace(run, annotations=(("metrics", provider), ("policy", "fast")))


STABLE_PODS = PodsKey("shop", "checkout", "5d9c7b6f48")
CANARY_PODS = PodsKey("shop", "checkout-canary", "")


def test_behind_a_gateway_the_services_are_the_tracks() -> None:
    run = replace(RUN, lanes=(lane("checkout"), lane("api"), lane("checkout")))
    found = tracks_of(run)
    assert found.stable == (ServiceKey("shop", "checkout"), ServiceKey("shop", "api"))
    assert found.canary == (ServiceKey("shop", "checkout-canary"), ServiceKey("shop", "api-canary"))
    assert not found.newborn
    assert tracks_of(replace(run, new_hash="6f7")) == found


def test_a_run_behind_a_gateway_without_lanes_has_nothing_to_follow() -> None:
    assert tracks_of(RUN) == Tracks()
    assert stable_of(RUN, ["checkout"]) == (ServiceKey("shop", "checkout"),)


def test_without_a_gateway_the_pods_are_the_tracks() -> None:
    found = tracks_of(replace(RUN, traffic=Traffic.REPLICAS))
    assert found.stable == (STABLE_PODS,)
    assert found.canary == (CANARY_PODS,)
    assert found.newborn


def test_while_the_deployment_rolls_its_new_pods_are_canaries_too() -> None:
    found = tracks_of(replace(RUN, traffic=Traffic.REPLICAS, new_hash="6f7c8d9b45"))
    assert found.canary == (CANARY_PODS, PodsKey("shop", "checkout", "6f7c8d9b45"))
    assert found.stable == (STABLE_PODS,)
    assert not set(found.canary) & set(found.stable)


def test_the_policy_may_name_whose_counters_judge() -> None:
    run = replace(RUN, lanes=(lane("checkout"),))
    assert tracks_of(named(run, "envoy")).stable == (ServiceKey("shop", "checkout", "envoy"),)
    pods = tracks_of(named(run, "opentelemetry"))
    assert pods.stable == (replace(STABLE_PODS, provider="opentelemetry"),)
    assert pods.canary == (replace(CANARY_PODS, provider="opentelemetry"),)
    assert pods.newborn


@pytest.mark.parametrize("provider", ["auto", "", "traefik", "envoy", "of another version"])
def test_without_a_gateway_only_pods_are_asked_whatever_is_named(provider: str) -> None:
    found = tracks_of(named(replace(RUN, traffic=Traffic.REPLICAS), provider))
    assert found.stable == (STABLE_PODS,)


def test_user_checks_read_by_service_and_by_pod() -> None:
    """Whichever of them judges; a provider that is named is asked for the keys of its own kind."""
    run = replace(RUN, lanes=(lane("checkout"), lane("checkout")), new_hash="6f7")
    for provider, by_service, by_pod in (
        ("", "", ""), ("envoy", "envoy", ""), ("micrometer", "", "micrometer"),
    ):  # fmt: skip
        found = checked_by(named(run, provider) if provider else run)
        assert found.stable == (
            PodsKey("shop", "checkout", "5d9c7b6f48", by_pod),
            ServiceKey("shop", "checkout", by_service),
        )
        assert found.canary == (
            PodsKey("shop", "checkout-canary", "", by_pod),
            PodsKey("shop", "checkout", "6f7", by_pod),
            ServiceKey("shop", "checkout-canary", by_service),
        )
    alone = checked_by(replace(RUN, traffic=Traffic.REPLICAS))
    assert (alone.stable, alone.canary) == ((STABLE_PODS,), (CANARY_PODS,))


def test_a_gateway_counts_everything_as_the_new_version_once_the_deployment_rolls_under_it() -> (
    None
):
    """Else a check of its metrics has no value any more, and every such run ends inconclusive."""
    run = replace(RUN, lanes=(lane("checkout"),), new_hash="6f7", phase=Phase.ROLLING_OUT)
    both = {ServiceKey("shop", "checkout"), ServiceKey("shop", "checkout-canary")}
    found = checked_by(run)
    assert both <= set(found.canary)
    assert found.stable == (STABLE_PODS,)


def test_pods_that_are_being_started_do_not_speak_for_what_runs_out() -> None:
    rolled = PodsKey("shop", "checkout", "6f7")
    for phase, spoken in (
        (Phase.JUDGING, False),
        (Phase.ROLLING, False),
        (Phase.ROLLING_OUT, False),
        (Phase.HANDING_BACK, False),
        (Phase.BAKING, True),
    ):
        found = pods_of(replace(RUN, new_hash="6f7", phase=phase))
        assert (rolled in found.canary) is spoken
        assert CANARY_PODS in found.canary
        assert found.stable == (STABLE_PODS,)
