# SPDX-License-Identifier: Apache-2.0
"""Which ceiling on the canary's share counts: always the least, and always by name.

Caps only ever take away. Nothing here can raise a weight above the step that the ladder declares,
so a missing or generous cap is harmless.
"""

import enum
from dataclasses import dataclass

from controller.core.policy.model import Policy, Step
from controller.core.values import WHOLE_BP


class CapSource(enum.Enum):
    """Who set a ceiling; in a tie the one named first is given as the reason."""

    STEP = "step"
    POLICY = "policy"
    NAMESPACE = "namespace"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A ceiling in basis points, and who set it."""

    source: CapSource
    limit_bp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Caps that the operators of the cluster set, beside the team's own; None means no cap."""

    namespace_bp: int | None = None
    cluster_bp: int | None = None


def most_beside(pods: int, weight_bp: int) -> int:
    """Most canary pods beside so many others whose share stays within a weight below the whole.

    c pods of n + c have the share c / (n + c), so c is at most n * w / (1 - w), rounded down.
    """
    return pods * weight_bp // (WHOLE_BP - weight_bp)


def share_beside(canary: int, pods: int) -> int:
    """The share in basis points, rounded up, that so many canary pods have beside the others."""
    together = canary + pods
    return -(-canary * WHOLE_BP // together) if together else 0


def pods_needed(weight_bp: int) -> int:
    """How many pods it takes until a single canary pod beside them stays within the weight."""
    return -(-(WHOLE_BP - weight_bp) // weight_bp)


def least(step: Step, policy: Policy, ceilings: Ceilings) -> Cap:
    """The cap that decides at `step`; its limit is the weight to ask for."""
    limits = _limits(step, policy, ceilings)
    caps = [Cap(source=source, limit_bp=bp) for source, bp in limits if bp is not None]
    return min(caps, key=lambda cap: cap.limit_bp)


def limit(step: Step, policy: Policy, ceilings: Ceilings) -> int:
    """The weight to ask for at `step`, in basis points, whoever set its cap."""
    return min(bp for _, bp in _limits(step, policy, ceilings) if bp is not None)


def _limits(
    step: Step, policy: Policy, ceilings: Ceilings
) -> tuple[tuple[CapSource, int | None], ...]:
    return (
        (CapSource.STEP, step.weight_bp),
        (CapSource.POLICY, policy.max_weight_bp),
        (CapSource.NAMESPACE, ceilings.namespace_bp),
        (CapSource.CLUSTER, ceilings.cluster_bp),
    )


def ceiling(policy: Policy, ceilings: Ceilings) -> Cap:
    """The cap that no step of the whole ladder may pass, before the promote permit."""
    return least(policy.steps[-1], policy, ceilings)


def ladder(policy: Policy, ceilings: Ceilings) -> tuple[Step, ...]:
    """The steps as they will really be taken: capped, and the ones that then repeat left out.

    Of steps that a cap makes equal the first one's dwell is replaced by the longest of them: a
    cap must not shorten the trial.
    """
    rungs: list[Step] = []
    for step in policy.steps:
        weight = limit(step, policy, ceilings)
        if rungs and rungs[-1].weight_bp == weight:
            dwell = max(rungs.pop().dwell_seconds, step.dwell_seconds)
        else:
            dwell = step.dwell_seconds
        rungs.append(Step(weight_bp=weight, dwell_seconds=dwell))
    return tuple(rungs)
