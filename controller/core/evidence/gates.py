# SPDX-License-Identifier: Apache-2.0
"""What a PASS asks for, beside evidence that does not speak against the canary."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from controller.core.evidence import latency
from controller.core.evidence.reasons import UNKNOWN, Code, Reason, percent, power, seconds
from controller.core.evidence.safe import Proof, Timely
from controller.core.evidence.settings import Settings
from controller.core.evidence.state import Evidence

LEAST_SECONDS: Final = 1.0
"""Nobody reacts sooner."""

PROOF: Final = "proof"
"""What is missing before all requests; a latency limit adds its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a PASS at the present weight asks for, beside evidence that does not speak against it.

    Attributes:
        dwell_seconds: Least evidence time.
        proven: Whether it must be proven that the canary is within the safe margin of stable and
            keeps the latency limits: what follows carries all requests.
        warm_seconds: So much must have been seen of warm pods, where answers are timed: latency is
            compared on those alone.
        budget: Bad requests that the next share may cost before a bad version is taken away;
            infinite where nobody has set a budget.
        next_share: The share of the requests that a PASS leads to.
        next_seconds: How long it is planned to last.
        reaction_seconds: How long it takes at least until a bad version has no more requests.
    """

    dwell_seconds: float
    proven: bool = False
    warm_seconds: float = 0.0
    budget: float = math.inf
    next_share: float = 1.0
    next_seconds: float = math.inf
    reaction_seconds: float = 0.0


def lacking(evidence: Evidence, settings: Settings, gate: Gate, *, alone: bool) -> Iterator[Reason]:
    """Too little seen, not for long enough, or not good enough for what comes next.

    Args:
        evidence: The accumulators.
        settings: The settings of the run.
        gate: What is asked for.
        alone: No stable pod serves any more, so that nothing is asked of stable.
    """
    yield from _unripe(evidence, settings, gate.dwell_seconds, alone=alone)
    if gate.proven:
        yield from _unproven(evidence, settings)
    if gate.proven and not alone:
        yield from _cold(evidence, gate)
    if math.isfinite(gate.budget):
        yield from _costly(evidence, settings, gate)


def _unripe(
    evidence: Evidence, settings: Settings, dwell_seconds: float, *, alone: bool
) -> Iterator[Reason]:
    """Too little seen, or not for long enough."""
    window = evidence.window
    for track, tally, least, code in (
        ("canary", window.canary, settings.min_requests, Code.TOO_FEW_REQUESTS),
        ("stable", window.stable, settings.min_stable_requests, Code.TOO_FEW_STABLE_REQUESTS),
    ):
        if tally.requests < least and not (alone and track == "stable"):
            wait = wait_for(tally.requests, least, window.seconds)
            unknown = "and none are coming" if window.seconds else UNKNOWN
            yield Reason(
                check="requests",
                code=code,
                message=f"{track} has {tally.requests} of {least} requests",
                expected=seconds(wait) if wait is not None else unknown,
                canary_value=float(window.canary.requests),
                stable_value=float(window.stable.requests),
                n=tally.requests,
                limit=float(least),
            )
    if window.seconds < dwell_seconds:
        left = dwell_seconds - window.seconds
        yield Reason(
            check="dwell",
            code=Code.DWELL_NOT_OVER,
            message=f"{window.seconds:.0f} of {dwell_seconds:g} s at this weight",
            expected=seconds(left),
            canary_value=window.seconds,
            limit=dwell_seconds,
        )


def proof_of(known: Timely) -> str:
    """What the proof of a latency limit is called."""
    return f"{PROOF} latency {known.seconds:g} s"


class _Claim(NamedTuple):
    """One thing that must be proven of the canary.

    Attributes:
        proof: What speaks for it.
        most: How much must be ruled out: a margin, or a share of slow answers.
        n: Requests that have been seen.
    """

    proof: Proof | Timely
    most: float
    n: int

    @property
    def check(self) -> str:
        """What it is called."""
        return proof_of(self.proof) if isinstance(self.proof, Timely) else PROOF

    @property
    def words(self) -> str:
        """What is to be proven, after "not yet proven"."""
        if isinstance(self.proof, Timely):
            return (
                f"that no more than {percent(self.most)} are slower than {self.proof.seconds:g} s"
            )
        return f"to be within {percent(self.most)} of stable"

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the evidence for it."""
        return self.proof.log_evidence(self.most)


def _claims(evidence: Evidence, settings: Settings) -> Iterator[_Claim]:
    """That it is no worse than stable by more than the margin, and that it keeps the limits.

    A limit for which there is no bound, or no histogram yet, is a reason of its own.
    """
    canary = evidence.window.canary
    yield _Claim(proof=evidence.proof, most=settings.safe_margin, n=canary.requests)
    for most, known in zip(settings.slow_margins, evidence.timely, strict=False):
        if known.seconds:
            yield _Claim(proof=known, most=most, n=canary.timed)


def _unproven(evidence: Evidence, settings: Settings) -> Iterator[Reason]:
    """Nothing speaks against it, and too little for it yet."""
    needed = settings.log_proven
    for claim in _claims(evidence, settings):
        if claim.proof.proves(claim.most, needed):
            continue
        have = claim.log_evidence
        wait = wait_for(have, needed, evidence.window.seconds)
        yield Reason(
            check=claim.check,
            code=Code.NOT_PROVEN,
            message=f"not yet proven {claim.words}: {power(max(have, 0.0))} of {power(needed)}",
            expected=seconds(wait) if wait is not None else UNKNOWN,
            canary_value=claim.proof.bound(settings.beta),
            n=claim.n,
            limit=claim.most,
        )


def _cold(evidence: Evidence, gate: Gate) -> Iterator[Reason]:
    """Where answers are timed, latency is compared before all requests, which cold pods bar."""
    left = _warm_in(evidence, gate)
    if left > 0:
        yield Reason(
            check="latency",
            code=Code.NO_LATENCY_DATA,
            message=f"latency is compared on warm pods alone, not seen for {gate.warm_seconds:g} s",
            expected=seconds(left),
            limit=gate.warm_seconds,
        )


def _warm_in(evidence: Evidence, gate: Gate) -> float:
    """Seconds until enough was seen of warm pods; 0 where no answer is timed."""
    timed = any(bound < math.inf for bound in evidence.bounds)
    if not timed or math.isinf(evidence.warm_until):
        return 0.0
    return max(evidence.warm_until + gate.warm_seconds - evidence.last_at, 0.0)


def asks_times(evidence: Evidence, settings: Settings, *, alone: bool) -> bool:
    """Whether answers at this weight must have been timed.

    By a limit, or since stable's are, in this run or before it: the canary's are compared with
    those, and where nothing of stable serves any more with what is known of its past.
    """
    if settings.limits.latency:
        return True
    if alone:
        return latency.enough(evidence.past)
    return bool(evidence.bounds or settings.past or evidence.window.stable.timed)


def _costly(evidence: Evidence, settings: Settings, gate: Gate) -> Iterator[Reason]:
    """What is not ruled out yet would cost more bad requests than allowed (specification, 1.11)."""
    window = evidence.window
    if not window.seconds:
        return  # The dwell is not over then, which says enough.
    worst, bad = evidence.proof.bound(settings.beta), _risked(evidence, settings, gate)
    harm = _harm(bad, settings, gate)
    if harm <= gate.budget:
        return
    wait = _cheap_in(evidence, settings, gate)
    yield Reason(
        check="budget",
        code=Code.OVER_BUDGET,
        message=f"up to {percent(worst)} more errors than stable are not ruled out, which at "
        f"{percent(gate.next_share)} could cost {harm:.0f} bad requests of {gate.budget:g} allowed",
        expected=f"{seconds(wait)} if nothing fails",
        canary_value=harm,
        n=window.canary.requests,
        limit=gate.budget,
    )


def _risked(evidence: Evidence, settings: Settings, gate: Gate) -> float:
    """Bad requests a second at the next share that are not ruled out."""
    window = evidence.window
    per_second = (window.canary.requests + window.stable.requests) / window.seconds
    return evidence.proof.bound(settings.beta) * gate.next_share * per_second


def _cheap_in(evidence: Evidence, settings: Settings, gate: Gate) -> float:
    """Seconds until the next share costs no more than the budget, if nothing fails.

    What is not ruled out shrinks as the requests grow.
    """
    if not evidence.window.seconds or not math.isfinite(gate.budget):
        return 0.0
    bad = _risked(evidence, settings, gate)
    if _harm(bad, settings, gate) <= gate.budget:
        return 0.0
    return evidence.window.seconds * (bad / _affordable(settings, gate) - 1)


def _harm(bad_per_second: float, settings: Settings, gate: Gate) -> float:
    """Bad requests that the next share may cost at so many a second.

    Until the version is found out, which takes the time to react and as many errors as make the
    evidence, or all that the step has, if that is less. An error is worth -log(pi) at most, with pi
    the canary's part of the errors that are to be expected anyway: little at 95 % of the requests.
    """
    found_out = bad_per_second * gate.reaction_seconds + _finding(settings, gate)
    return min(found_out, bad_per_second * gate.next_seconds)


def _finding(settings: Settings, gate: Gate) -> float:
    """Errors that it takes to find a bad version out at the next share."""
    scaled = gate.next_share * settings.tolerance
    part = scaled / (scaled + 1 - gate.next_share)
    if part >= 1:
        return math.inf
    return settings.log_needed * settings.dispersion / -math.log(part)


def _affordable(settings: Settings, gate: Gate) -> float:
    """Bad requests a second at the next share that cost no more than the budget."""
    quick = (gate.budget - _finding(settings, gate)) / max(gate.reaction_seconds, LEAST_SECONDS)
    return max(quick, gate.budget / gate.next_seconds)


def wait_for(have: float, need: float, span: float) -> float | None:
    """Seconds until `need` is reached at the present pace; None if there is no pace."""
    if have >= need:
        return 0.0
    return (need - have) * span / have if have > 0 and span else None


def seconds_to_go(
    evidence: Evidence, settings: Settings, gate: Gate, *, alone: bool
) -> float | None:
    """When to expect that nothing is lacking if all goes on as it does; None if unknown."""
    window = evidence.window
    asked = [(window.canary, settings.min_requests)]
    if not alone:
        asked.append((window.stable, settings.min_stable_requests))
    waits = [wait_for(tally.requests, least, window.seconds) for tally, least in asked]
    if asks_times(evidence, settings, alone=alone):
        waits += [wait_for(tally.timed, least, window.seconds) for tally, least in asked]
    waits.append(max(gate.dwell_seconds - window.seconds, 0.0))
    if gate.proven:
        waits += [
            wait_for(claim.log_evidence, settings.log_proven, window.seconds)
            for claim in _claims(evidence, settings)
        ]
        waits.append(0.0 if alone else _warm_in(evidence, gate))
    waits.append(_cheap_in(evidence, settings, gate))
    known = [wait for wait in waits if wait is not None]
    return max(known) if len(known) == len(waits) else None
