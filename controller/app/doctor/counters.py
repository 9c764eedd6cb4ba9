# SPDX-License-Identifier: Apache-2.0
"""What Prometheus says of a target before a run: whose counters judge, and what they show now."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import Choice, Provider
from controller.core import checkup, errors
from controller.core.checkup import Finding
from controller.core.evidence import checks, falling, past
from controller.core.evidence.past import Past
from controller.core.evidence.reasons import percent
from controller.core.evidence.scraped import Jobs
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey, TrackSeries
from controller.core.evidence.settings import oldest
from controller.core.evidence.tally import INFINITE, summed
from controller.core.lifecycle import coverage, tracks
from controller.core.lifecycle.memory import Run
from controller.core.lifecycle.situation import Situation
from controller.core.policy.model import LatencyLimit
from controller.core.values import PREFIX
from controller.engine.follower import joined
from controller.ports.metrics import Batch

WINDOW_SECONDS: Final = 300.0
"""Samples that are looked at: some, even where they come once a minute."""

EXISTS_SECONDS: Final = 120.0
"""In so long every metric that is scraped has a sample."""

CLOCKS_SECONDS: Final = 5.0
"""A difference of clocks that is worth a word; the store tells whole seconds."""

COARSE: Final = 1.5
"""A bucket that ends so many times beyond a latency limit stands for it badly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What was seen.

    Attributes:
        findings: In words.
        run: The run, by the provider that has data.
        past: Stable's last minutes; empty without data.
    """

    findings: tuple[Finding, ...]
    run: Run
    past: Past = field(default_factory=Past)

    @property
    def stable_bad(self) -> float:
        """Share of stable's answers that failed, with half an error more: none is not never."""
        total, bad = self.past.total
        return (bad + 0.5) / (total + 1)


async def look(
    metrics: Prometheus, choice: Choice, situation: Situation, run: Run, *, now: float
) -> Counters:
    """Ask for both tracks, and look further where stable has nothing.

    `now` is this machine's clock, in seconds since the epoch.
    """
    asked = run
    stable, canary = keys_of(situation, run)
    if not stable:
        message = "no Service to ask for: what Prometheus has on this target cannot be said"
        return Counters(findings=(checkup.problem("metrics", message),), run=run)
    try:
        batch = await metrics.samples(WINDOW_SECONDS, {*stable, *canary})
        told = [_clocks(batch, now)]
        switched: list[Finding] = []
        if joined(batch, stable) is None:
            switched, run = await _elsewhere(metrics, choice, situation, run)
            stable, canary = keys_of(situation, run)
            batch = await metrics.samples(WINDOW_SECONDS, {*stable, *canary})
        jobs = Jobs.of(joined(batch, canary), joined(batch, stable))
        unseen = await _unscraped(metrics, situation, run, jobs)
    except errors.MetricsUnavailable as error:
        message = f"Prometheus gave no answer: {error.message}"
        advice = error.advice or "give its address, the part before /api/v1, with --prometheus"
        return Counters(findings=(checkup.problem("metrics", message, advice=advice),), run=run)
    told += switched
    provider = choice.of(stable[0])
    if provider is not None:
        told.append(_chosen(provider, choice, situation, asked, run))
    told += [checkup.warning("metrics", text) for text in batch.warnings]
    series = joined(batch, stable)
    queries = metrics.texts(WINDOW_SECONDS, stable)
    known = past.read(series, series)
    told.append(_stable(series, known, batch, stable, queries))
    told.append(_canary(batch, canary, metrics.texts(WINDOW_SECONDS, canary)))
    told += unseen
    if series is not None and provider is not None:
        told += _paced(known)
        told += _falling(series)
        limits = () if isinstance(situation.policy, tuple) else situation.policy.latency
        told += _latency(series, provider, limits)
    return Counters(findings=tuple(told), run=run, past=known)


def keys_of(situation: Situation, run: Run) -> tuple[tuple[TrackKey, ...], tuple[TrackKey, ...]]:
    """What stable and canary are asked for by."""
    names = [service.name for service in situation.view.services]
    return tracks.stable_of(run, names), tracks.tracks_of(run).canary


def _clocks(batch: Batch, now: float) -> Finding:
    ahead = batch.evaluated_at - now
    facts = {"clock_difference_seconds": round(ahead, 1)}
    if abs(ahead) <= CLOCKS_SECONDS:
        return checkup.ok(
            "metrics",
            f"Prometheus answers; its clock and this machine's are {abs(ahead):.0f} s apart",
            facts=facts,
        )
    return checkup.warning(
        "metrics",
        f"Prometheus answers; its clock is {abs(ahead):.0f} s "
        f"{'ahead of' if ahead > 0 else 'behind'} this machine's",
        advice="the judge goes by the time of Prometheus alone; have NTP set both for your eyes",
        facts=facts,
    )


def _chosen(
    provider: Provider, choice: Choice, situation: Situation, asked: Run, run: Run
) -> Finding:
    """Which provider, by what, and what one should know of it."""
    controllers = _controllers(situation)
    by = f"{PREFIX}metrics names it" if tracks.named(run) else "the first that fits of --provider"
    if run != asked:
        by = "by the series that there are"
    facts = {"provider": provider.name, "controllers": list(controllers)}
    fitting = sorted(item.name for item in choice.known.values() if item.takes(controllers))
    text = f"provider {provider.name}: {provider.title} ({by})"
    if provider.pods is None and fitting and provider.name not in fitting:
        return checkup.warning(
            "metrics",
            f"{text}; the routes' gateway is {', '.join(controllers)}, which is read by "
            f"{', '.join(fitting)}",
            advice=_name_it(fitting[0]),
            notes=provider.caveats,
            facts=facts,
        )
    if provider.name in fitting:
        text = f"{text}; the routes' gateway {', '.join(controllers)} says the same"
    elif provider.pods is None and controllers:
        text = f"{text}; no provider names the routes' gateway {', '.join(controllers)}"
    return checkup.ok("metrics", text, notes=provider.caveats, facts=facts)


def _controllers(situation: Situation) -> tuple[str, ...]:
    return tuple(sorted({name for route in situation.view.routes for name in route.controllers}))


def _name_it(name: str) -> str:
    return f"write {PREFIX}metrics: {name}, or start the daemon with --provider {name}"


async def _elsewhere(
    metrics: Prometheus, choice: Choice, situation: Situation, run: Run
) -> tuple[list[Finding], Run]:
    """Stable has no series where they were looked for: who has some, and what is missing there."""
    stable, _ = keys_of(situation, run)
    asked = choice.of(stable[0])
    others = _candidates(choice, situation, run)
    batch = await metrics.samples(WINDOW_SECONDS, {key for keys in others.values() for key in keys})
    having = [name for name, keys in others.items() if joined(batch, keys) is not None]
    controllers = _controllers(situation)
    having.sort(key=lambda name: not choice.known[name].takes(controllers))
    if asked is None:
        text = f"no provider that is chosen by --provider ({', '.join(choice.auto)}) fits"
    else:
        text = f"provider {asked.name} has no series of {' and '.join(map(str, stable))}"
    if having:
        found = checkup.problem(
            "metrics",
            f"{text}, but {', '.join(having)} has; the rest is told of {having[0]}",
            advice=_name_it(having[0]),
            facts={"providers_with_series": having},
        )
        pairs = dict(run.annotations) | {"metrics": having[0]}
        return [found], replace(run, annotations=tuple(sorted(pairs.items())))
    why, advice = await _missing(metrics, asked, run) if asked else ("", "")
    return [checkup.problem("metrics", f"{text}{why}", advice=advice)], run


def _candidates(
    choice: Choice, situation: Situation, run: Run
) -> Mapping[str, tuple[TrackKey, ...]]:
    """The keys of stable by the name of each provider that could judge this run."""
    space = run.target.namespace
    found: dict[str, tuple[TrackKey, ...]] = {}
    for name, provider in choice.known.items():
        if provider.pods is not None:
            found[name] = (PodsKey(space, run.target.name, run.stable_hash, name),)
        elif run.lanes:
            services = [service.name for service in situation.view.services]
            found[name] = tuple(ServiceKey(space, service, name) for service in services)
    return {name: keys for name, keys in found.items() if keys}


async def _missing(metrics: Prometheus, provider: Provider, run: Run) -> tuple[str, str]:
    """What there is of the provider's metric instead, and what to do about it."""
    metric = provider.requests.metric
    pods, space = provider.pods, run.target.namespace
    if pods is None:
        rows = await metrics.labels(f"{metric}{{}}", EXISTS_SECONDS)
        if not rows:
            return f": there is no {metric} at all", "have the gateway scraped by this Prometheus"
        why = f": {metric} exists ({len(rows)} series), but not for this Service"
        advice = "send a request through the route and look again"
        return why, f"{advice}; else compare its labels with the query that is shown"
    for matcher, lacking in (
        (f'{pods.namespace}="{space}",{pods.pod}=""', pods.pod),
        (f'{pods.namespace}=""', pods.namespace),
    ):
        rows = await metrics.labels(f"{metric}{{{matcher}}}", EXISTS_SECONDS)
        if rows:
            why = f": {metric} exists ({len(rows)} series) without the label {lacking!r}"
            advice = f"label what is scraped with {pods.namespace!r} and {pods.pod!r}"
            return why, f"{advice}, as PodMonitor and ServiceMonitor do"
    rows = await metrics.labels(f'{metric}{{{pods.namespace}="{space}"}}', EXISTS_SECONDS)
    if rows:
        probes = ", or of probes alone, which are left out" if provider.ignore else ""
        return (
            f": {metric} exists in {space} ({len(rows)} series), but not of these pods{probes}",
            "have the pods of this Deployment scraped, and send them a request",
        )
    return f": there is no {metric} in {space}", "have its pods scraped, or name another provider"


def _stable(
    series: TrackSeries | None,
    known: Past,
    batch: Batch,
    keys: Sequence[TrackKey],
    queries: tuple[str, ...],
) -> Finding:
    who = " and ".join(map(str, keys))
    facts: dict[str, Any] = {"track": "stable", "queries": list(queries)}
    if series is None or not series.requests:
        return checkup.problem(
            "metrics",
            f"stable ({who}) has no data: no step would ever pass",
            advice="see what is told of the provider above",
            notes=queries,
            facts=facts,
        )
    newest = max((one.samples[-1].at for one in series.requests if one.samples), default=0.0)
    age = batch.evaluated_at - newest
    total, bad = known.total
    text = (
        f"stable ({who}): {_shown(known)}, "
        f"{len(series.requests)} series, newest sample {max(age, 0):.0f} s old"
    )
    facts |= {
        "requests_per_minute": round(known.volume * 60, 1),
        "error_share": bad / total if total else None,
        "newest_sample_seconds": round(age, 1),
    }
    if age > oldest(known.gap):
        advice = "see why it is not scraped any more: the targets' page of Prometheus shows it"
        return checkup.problem(
            "metrics", f"{text}: too old to judge by", advice=advice, notes=queries, facts=facts
        )
    return checkup.ok("metrics", text, notes=queries, facts=facts)


def _shown(known: Past) -> str:
    total, bad = known.total
    share = percent(bad / total) if total else "no"
    return f"{known.volume * 60:.0f} requests/min, {share} errors"


def _canary(batch: Batch, keys: Sequence[TrackKey], queries: tuple[str, ...]) -> Finding:
    who = " and ".join(map(str, keys)) or "no keys"
    facts: dict[str, Any] = {"track": "canary", "queries": list(queries)}
    series = joined(batch, keys)
    if series is None:
        text = f"canary ({who}): no series, which is right before a run"
    else:
        known = past.read(series)
        shown = _shown(known)
        text = f"canary ({who}): {shown}; it has series of a run under way or of one before"
        facts["canary_requests_per_minute"] = round(known.volume * 60, 1)
    return checkup.ok("metrics", text, notes=queries, facts=facts)


async def _unscraped(
    metrics: Prometheus, situation: Situation, run: Run, jobs: Jobs
) -> list[Finding]:
    """Whether all pods are scraped, where their own counts judge."""
    if not tracks.by_pods(run):
        return []
    pods = tracks.pods_of(run)
    levels = await metrics.saturation({*pods.canary, *pods.stable})
    known = replace(situation, scraped=levels.scraped(pods.canary, pods.stable, jobs))
    advice = "the targets' page of Prometheus says why; a run passes nothing while it is so"
    return [
        checkup.problem("metrics", reason.message, advice=advice)
        for reason in coverage.unscraped(known, run)
    ]


def _paced(known: Past) -> Iterator[Finding]:
    if known.gap:
        text = f"scraped every {known.gap:g} s, as the samples show"
        yield checkup.ok("metrics", text, facts={"scrape_seconds": known.gap})
        return
    yield checkup.warning(
        "metrics",
        f"fewer than two scrapes in {WINDOW_SECONDS / 60:g} min: nothing can be measured yet",
        advice="wait for some scrapes, or have it scraped more often",
    )


def _falling(series: TrackSeries) -> Iterator[Finding]:
    """Whether stable's counts are none: a run would hold until its deadline."""
    rows = past.by_pod(replace(series, buckets=())).values()
    whole = summed(one.stable for row in rows for one in row)
    advice = (
        "name a metric that counts answers and only grows (`switchgear doctor --provider` tries "
        "others), and let each process have a port of its own or the library join them"
    )
    for reason in falling.said("stable", whole):
        yield checkup.problem("metrics", reason.message, advice=advice)


def _latency(
    series: TrackSeries, provider: Provider, limits: Sequence[LatencyLimit]
) -> Iterator[Finding]:
    """Whether answer times are known, and which bucket stands for each limit."""
    bounds = sorted({bound for bound, _ in series.buckets if bound != INFINITE})
    if not bounds:
        what = "has no histogram" if provider.latency is None else f"{provider.latency.metric} none"
        text = f"latency is not judged: provider {provider.name} {what}"
        if provider.latency is not None:
            text = f"latency is not judged: {provider.latency.metric} has no series of stable"
        if limits:
            advice = f"have the histogram scraped, or take {PREFIX}latency away"
            yield checkup.problem("metrics", f"{text}, and the policy has limits", advice=advice)
        else:
            yield checkup.warning("metrics", text, advice="have the histogram scraped, if there is")
        return
    shown = ", ".join(f"{bound:g}" for bound in bounds)
    yield checkup.ok(
        "metrics", f"latency histogram with bounds {shown} s", facts={"bounds_seconds": bounds}
    )
    for limit in limits:
        name = f"p{limit.quantile * 100:g}<{limit.seconds:g}s"
        stands = checks.standing_for(limit.seconds, bounds)
        facts = {"limit_seconds": limit.seconds, "bucket_seconds": stands or None}
        advice = f"give the histogram a bound at {limit.seconds:g} s"
        if not stands:
            text = f"{name} lies beyond the last bound: it is not judged"
            yield checkup.problem("metrics", text, advice=advice, facts=facts)
        elif stands > limit.seconds * COARSE or math.isclose(stands, 0.0):
            text = f"{name} is judged at {stands:g} s, the next bound: between them nobody looks"
            yield checkup.warning("metrics", text, advice=advice, facts=facts)
        else:
            yield checkup.ok("metrics", f"{name} is judged at {stands:g} s", facts=facts)
