# SPDX-License-Identifier: Apache-2.0
"""What history tells the judge, and what each step of the ladder would take and find."""

import math
from dataclasses import replace

from controller.adapters.prometheus.client import Prometheus
from controller.app.doctor.counters import Counters, keys_of
from controller.core import checkup
from controller.core.checkup import Finding, span
from controller.core.evidence import calibration
from controller.core.evidence.calibration import Calibration
from controller.core.evidence.gates import PROOF
from controller.core.evidence.reasons import percent, seconds
from controller.core.evidence.settings import SATURATION
from controller.core.lifecycle import forecast, trial
from controller.core.lifecycle.forecast import Rung
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.values import percent as weight
from controller.engine.feed import Feed
from controller.engine.measurer import Measurer
from controller.engine.meters import Meters
from controller.ports.clock import Clock


async def history(
    metrics: Prometheus, clock: Clock, situation: Situation, run: Run
) -> tuple[Finding, Run]:
    """What stable's past tells the judge, as it is asked before a run; the run that knows it."""
    stable, _ = keys_of(situation, run)
    feed = Feed(metrics=metrics, clock=clock, meters=Meters())
    measurer = Measurer(metrics=metrics, clock=clock, meters=Meters())
    planned = trial.rehearsed(run, situation.plan, situation.ceilings)
    counted = await feed.calibration(stable, planned)
    found = calibration.watching(counted, await measurer.past(run))
    return learnt(found), replace(run, calibration=found.to_json())


def learnt(found: Calibration) -> Finding:
    """What it is that is known."""
    facts = {
        "known": found.known,
        "phi": found.phi,
        "latency_phi": found.latency_phi,
        "cap_scrapes": found.cap_scrapes,
        "doubt": found.doubt,
    }
    if found.known and not found.doubt:
        return checkup.ok("history", found.words, facts=facts)
    advice = (
        "a run works, and is more careful; Prometheus has to keep six hours of stable's counters "
        "for it to know better"
    )
    if found.doubt:
        advice = (
            f"{found.doubt}: a healthy version may be as well; see which of stable's pods fail or "
            "answer slowly by themselves, and when: `switchgear backtest` names the times"
        )
    return checkup.warning("history", found.words, advice=advice, facts=facts)


def steps(situation: Situation, run: Run, seen: Counters) -> tuple[Finding, ...]:
    """What each rung of the ladder takes at least, and the smallest regression that it finds."""
    per_second = seen.past.volume
    if per_second <= 0:
        return (
            checkup.problem(
                "steps",
                "stable gets no requests: no step would have enough to pass, and the run would end "
                "inconclusive",
                advice="a canary is judged on real requests: send some, or do without one here",
            ),
        )
    paced = replace(situation, scrape_seconds=seen.past.gap or situation.scrape_seconds)
    found = forecast.of(paced, run, per_second=per_second, stable_bad=seen.stable_bad)
    return tuple(_rung(rung, paced, per_second) for rung in found)


def _rung(rung: Rung, situation: Situation, per_second: float) -> Finding:
    passage = rung.passage
    facts = {
        "name": rung.name,
        "weight_bp": rung.step.weight_bp,
        "dwell_seconds": rung.step.dwell_seconds,
        "canary_requests_per_second": round(rung.per_second, 3),
        "seconds_at_least": passage.seconds if math.isfinite(passage.seconds) else None,
        "seconds_while_young": rung.patience_seconds or None,
        "smallest_error_share": rung.smallest,
        "found_after_seconds": [
            {"error_share": bad, "seconds": after if math.isfinite(after) else None}
            for bad, after in rung.examples
        ],
    }
    head = (
        f"{rung.name}: {weight(rung.step.weight_bp)} of {_rate(per_second)} for "
        f"{span(rung.step.dwell_seconds)}, {_rate(rung.per_second)} to the canary"
    )
    sees = _sees(rung, situation.plan.deadline_seconds)
    if not math.isfinite(passage.seconds):
        why = "; ".join(reason.message for reason in passage.slowest)
        return checkup.problem(
            "steps",
            f"{head}: not passed within its deadline of "
            f"{span(situation.plan.deadline_seconds)} ({why}); {sees}",
            advice="give it a larger share or a longer deadline, ask for fewer requests "
            "(min-requests), or wait for more traffic",
            facts=facts,
        )
    if passage.slowest:
        why = "; ".join(_awaited(reason.check) for reason in passage.slowest)
        head = f"{head}: takes {span(passage.seconds)} at least, for it waits for {why}"
    else:
        head = f"{head}: takes {span(passage.seconds)} at least"
    if rung.patience_seconds > passage.seconds:
        young = f"up to {span(rung.patience_seconds)} where young pods use far more than stable's"
        head = f"{head}, and {young}"
    text = f"{head}; {sees}"
    if rung.smallest is None:
        return checkup.warning(
            "steps",
            text,
            advice="make it longer or its share larger: what it lets pass, the next one meets",
            facts=facts,
        )
    return checkup.ok("steps", text, facts=facts)


def _awaited(check: str) -> str:
    words = {
        "requests": "enough requests",
        PROOF: "the proof that goes before the promotion",
        "budget": "what its budget asks to be known",
        SATURATION: "what runs out to be measured for half a minute",
    }
    timed = check.removeprefix(f"{PROOF} ")
    return words.get(check, f"the proof that {timed} is kept" if timed != check else check)


def _sees(rung: Rung, deadline: float) -> str:
    passage = rung.passage.seconds
    within = seconds(passage if math.isfinite(passage) else rung.step.dwell_seconds + deadline)
    told = [
        f"{bad * 100:g} % errors in {seconds(after)}"
        for bad, after in rung.examples
        if math.isfinite(after)
    ]
    least = (
        f"it finds nothing in {within}"
        if rung.smallest is None
        else f"the least that it finds in {within} is {percent(rung.smallest)} errors"
    )
    return "; ".join([*([f"finds {', '.join(told)}"] if told else []), least])


def _rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:.3g} requests/s"
    return f"{per_second * 60:.3g} requests/min"
