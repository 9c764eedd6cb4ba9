# SPDX-License-Identifier: Apache-2.0
"""What speaks against pods that are cold: a reason to wait for warm ones, and no proof.

Pods that have just started fail more often and answer slowly, whatever their version is: for a
minute errors are bet on with a far larger tolerance, and latency not at all (specification, 1.12).
A step may be over sooner than that. So that a version which is worse does not climb in its own
youth, errors and latency are looked at without that mildness as well, and if they look bad the step
waits until warm pods have been seen for a while. Whoever starts well waits for nothing.
"""

from collections.abc import Iterator
from typing import Final

from controller.core.evidence import checks, eprocess, slower
from controller.core.evidence.reasons import Code, Reason, counted, power, seconds
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence
from controller.core.evidence.tally import INFINITE
from controller.core.evidence.tempering import tempered

LOOK_SECONDS: Final = 60.0
"""So much is seen of warm pods before what was held against cold ones is forgotten."""


def seconds_to_go(evidence: Evidence, settings: Settings) -> float:
    """Until when the step waits for warm pods, from the newest scrape on; 0: it does not."""
    return _left(evidence) if any(doubts(evidence, settings)) else 0.0


def doubts(evidence: Evidence, settings: Settings) -> Iterator[Reason]:
    """What would speak against warm pods."""
    left = _left(evidence)
    if left <= 0:
        return
    expected = seconds(left)
    window, level = evidence.window, eprocess.value(evidence.fast)
    canary, stable = window.canary, window.stable
    if level >= settings.log_doubt:
        errors = counted(canary.errors, canary.requests, "errors")
        beside = counted(stable.errors, stable.requests, "")
        yield Reason(
            check=checks.Kind.ERRORS.value,
            code=Code.EVIDENCE_AGAINST,
            message=f"canary {errors} against stable {beside} so far at this weight, evidence "
            f"{power(level)} while its pods are cold: warm ones decide",
            expected=expected,
            canary_value=canary.error_rate,
            stable_value=stable.error_rate,
            n=canary.requests,
        )
    bound = _slower(evidence, settings)
    if bound:
        slow = counted(canary.slower_than(bound) or 0, canary.timed, f"slower than {bound:g} s")
        beside = counted(stable.slower_than(bound) or 0, stable.timed, "")
        yield Reason(
            check=checks.Kind.LATENCY.value,
            code=Code.EVIDENCE_AGAINST,
            message=f"canary {slow} against stable {beside} while its pods are cold: warm ones "
            "decide",
            expected=expected,
            n=canary.timed,
        )


def _left(evidence: Evidence) -> float:
    return evidence.warm_until + LOOK_SECONDS - evidence.last_at


def _slower(evidence: Evidence, settings: Settings) -> float:
    """A bound that surely more of the canary's answers are beyond than is tolerated; 0: there is
    none.
    """
    canary, stable = evidence.window.canary, evidence.window.stable
    bounds = [bound for bound in evidence.bounds if bound < INFINITE]
    if not bounds or not canary.timed or not stable.timed:
        return 0.0
    span = evidence.window.seconds
    served = canary.requests + stable.requests
    worth = tempered(settings, served / span if span else 0.0)
    for bound in bounds:
        slow, others = canary.slower_than(bound), stable.slower_than(bound)
        if slow is None or others is None or slow * stable.timed <= others * canary.timed:
            continue
        least, most = slower.ends(
            (slow, canary.timed),
            (others, stable.timed),
            eta=worth.slower_than(bound, settings),
            beta=settings.beta / len(bounds),
        )
        if least > settings.latency_tolerance * most:
            return bound
    return 0.0
