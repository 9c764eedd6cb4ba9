# SPDX-License-Identifier: Apache-2.0
"""The least cap decides and is named; no cap ever raises anything."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.policy.caps import Cap, CapSource, Ceilings, ceiling, ladder, least
from controller.core.policy.model import PRESETS, Policy, Preset, Step

_STEP = Step(weight_bp=2500, dwell_seconds=60)


def capped(max_weight_bp: int) -> Policy:
    return dataclasses.replace(PRESETS[Preset.STANDARD], max_weight_bp=max_weight_bp)


@pytest.mark.parametrize(
    ("policy_bp", "namespace_bp", "cluster_bp", "source", "limit_bp"),
    [
        (5000, None, None, CapSource.STEP, 2500),
        (1000, None, None, CapSource.POLICY, 1000),
        (5000, 700, 800, CapSource.NAMESPACE, 700),
        (5000, 700, 600, CapSource.CLUSTER, 600),
        (5000, None, 0, CapSource.CLUSTER, 0),
        (2500, 2500, 2500, CapSource.STEP, 2500),
    ],
)
def test_the_least_cap_decides(
    policy_bp: int,
    namespace_bp: int | None,
    cluster_bp: int | None,
    source: CapSource,
    limit_bp: int,
) -> None:
    ceilings = Ceilings(namespace_bp=namespace_bp, cluster_bp=cluster_bp)
    assert least(_STEP, capped(policy_bp), ceilings) == Cap(source=source, limit_bp=limit_bp)


def test_observe_never_gets_a_request() -> None:
    policy = PRESETS[Preset.OBSERVE]
    assert all(least(step, policy, Ceilings()).limit_bp == 0 for step in policy.steps)


def test_a_capped_ladder_keeps_the_longest_trial() -> None:
    policy = dataclasses.replace(
        capped(1000),
        steps=(
            Step(weight_bp=500, dwell_seconds=60),
            Step(weight_bp=2500, dwell_seconds=300),
            Step(weight_bp=5000, dwell_seconds=120),
        ),
    )
    assert ladder(policy, Ceilings()) == (
        Step(weight_bp=500, dwell_seconds=60),
        Step(weight_bp=1000, dwell_seconds=300),
    )


_CAP = st.none() | st.integers(0, 10_000)


@given(
    st.lists(st.integers(1, 9499), min_size=1, max_size=8, unique=True).map(sorted),
    st.integers(0, 10_000),
    _CAP,
    _CAP,
)
def test_no_rung_passes_any_cap(
    weights: list[int], policy_bp: int, namespace_bp: int | None, cluster_bp: int | None
) -> None:
    steps = tuple(Step(weight_bp=weight, dwell_seconds=weight) for weight in weights)
    policy = dataclasses.replace(capped(policy_bp), steps=steps)
    ceilings = Ceilings(namespace_bp=namespace_bp, cluster_bp=cluster_bp)
    caps = [cap for cap in (policy_bp, namespace_bp, cluster_bp) if cap is not None]
    rungs = ladder(policy, ceilings)
    taken = [rung.weight_bp for rung in rungs]
    assert taken == sorted(set(taken))
    assert all(weight <= min(caps) for weight in taken)
    assert taken[-1] == ceiling(policy, ceilings).limit_bp == min(*caps, weights[-1])
    assert max(rung.dwell_seconds for rung in rungs) == max(weights)
