# SPDX-License-Identifier: Apache-2.0
"""Each check of a target asked once: its query, its value now, and what it would say."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.adapters.clock import LoopClock
from controller.adapters.prometheus import providers
from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import Choice
from controller.app import reading
from controller.app.doctor import counters, surroundings
from controller.app.doctor.surroundings import Surroundings
from controller.app.reading import Access
from controller.core import errors
from controller.core.evidence import checks, past
from controller.core.evidence.measures import Gauge
from controller.core.evidence.past import Past
from controller.core.evidence.reasons import percent
from controller.core.evidence.series import TrackKey
from controller.core.evidence.tally import INFINITE
from controller.core.lifecycle import tracks
from controller.core.policy import keys, promql
from controller.core.policy.model import LatencyLimit, Policy, Preset, Problem, UserCheck
from controller.core.values import PREFIX, TargetRef
from controller.engine.follower import joined
from controller.engine.measurer import PAST_SECONDS

HOLDS: Final = "holds"
FAILS: Final = "fails"
NONE: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
    """One version, as the judge's counters and as user checks know it."""

    name: str
    counted: tuple[TrackKey, ...]
    checked: tuple[TrackKey, ...]
    past: Past
    """The last minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a check says of a track, and by what."""

    track: str
    says: str
    why: str
    queries: tuple[str, ...]
    value: float | None = None
    requests: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "track": self.track,
            "says": self.says,
            # JSON knows no infinity; the words have it.
            "value": self.value if self.value is None or math.isfinite(self.value) else None,
            "requests": self.requests,
            "why": self.why,
            "queries": list(self.queries),
        }


async def examine(
    access: Access, target: TargetRef, url: str, names: tuple[str, ...]
) -> dict[str, Any]:
    """What every check of a target says now.

    Args:
        access: Where the API server is.
        target: The Deployment.
        url: Address of Prometheus.
        names: Providers in the order in which the daemon chooses them.

    Raises:
        Missing: There is no such Deployment.
        MetricsUnavailable: Prometheus gave no answer at all.
        SwitchgearError: The cluster was not reached, or the Deployment may not be read.
    """
    async with reading.connected(access) as calls:
        seen = await surroundings.look(calls, access.namespace, target, Preset.STANDARD.value)
    clock = LoopClock()
    choice = providers.choose(names)
    metrics, unknown = Prometheus(url, choice, now=clock.wall), list[str]()
    try:
        found = await _tracks(metrics, seen)
        told = [*_defaults(metrics, choice, seen, found)]
        for key, text in sorted(_annotations(seen).items()):
            if keys.is_check(key):
                told.append(await _user(metrics, key, text, found))
        try:
            told += await _saturation(metrics, seen, found)
        except errors.MetricsUnavailable as error:
            unknown.append(f"what runs out is not watched: {error.diagnostics()}")
    finally:
        await metrics.close()
    policy = seen.situation.policy
    return {
        "target": str(target),
        "ok": all(
            not check["problems"] and all(one["says"] == HOLDS for one in check["tracks"])
            for check in told
        ),
        "policy": policy.name if isinstance(policy, Policy) else "",
        "notes": [*_notes(seen, found), *unknown],
        "checks": told,
    }


def _notes(seen: Surroundings, found: Sequence[_Track]) -> list[str]:
    told = [finding.message for finding in seen.findings if finding.topic == "policy"]
    return told if len(found) > 1 else [*told, "no canary runs, so only stable was asked"]


def _annotations(seen: Surroundings) -> dict[str, str]:
    """Ours, without prefix: as they stand there, not as they were assumed to be."""
    found: Mapping[str, Any] = seen.manifest["metadata"].get("annotations") or {}
    return {
        key.removeprefix(PREFIX): str(text) for key, text in found.items() if key.startswith(PREFIX)
    }


async def _tracks(metrics: Prometheus, seen: Surroundings) -> tuple[_Track, ...]:
    """Stable, and the canary if there is one."""
    stable, canary = counters.keys_of(seen.situation, seen.run)
    batch = await metrics.samples(counters.WINDOW_SECONDS, {*stable, *canary})
    both = tracks.checked_by(seen.run)

    def track(name: str, counted: tuple[TrackKey, ...], checked: tuple[TrackKey, ...]) -> _Track:
        series = joined(batch, counted)
        return _Track(name=name, counted=counted, checked=checked, past=past.read(series, series))

    twin = seen.situation.view.canary
    found = [track("stable", stable, both.stable)]
    if twin is not None and twin.replicas > 0:
        found.append(track("canary", canary, both.canary))
    return tuple(found)


def _check(
    name: str,
    text: str,
    said: Sequence[_Said],
    *,
    readers: Sequence[str] = (),
    problems: Sequence[Problem] = (),
) -> dict[str, Any]:
    return {
        "name": name,
        "text": text,
        "readers": list(readers),
        "problems": [
            {"code": one.code, "message": one.message, "hint": one.hint} for one in problems
        ],
        "tracks": [one.to_json() for one in said],
    }


def _defaults(
    metrics: Prometheus, choice: Choice, seen: Surroundings, found: Sequence[_Track]
) -> Iterator[dict[str, Any]]:
    """The limits of the policy itself. That versions are compared as well needs a run."""
    policy = seen.situation.policy
    if not isinstance(policy, Policy):
        return
    provider = choice.of(found[0].counted[0]) if found[0].counted else None
    readers = (provider.name,) if provider else ()
    if policy.error_rate is not None:
        yield _check(
            "errors",
            f"at most {policy.error_rate * 100:g} % failed",
            [_errors(metrics, track, policy.error_rate) for track in found],
            readers=readers,
        )
    for limit in policy.latency:
        yield _check(
            f"latency p{limit.quantile * 100:g}",
            f"at most {limit.slow_share * 100:g} % slower than {limit.seconds:g} s",
            [_latency(metrics, track, limit) for track in found],
            readers=readers,
        )


def _errors(metrics: Prometheus, track: _Track, limit: float) -> _Said:
    total, bad = track.past.total
    queries = metrics.texts(counters.WINDOW_SECONDS, track.counted)[:1]
    return _share(track, bad, total, limit, queries)


def _latency(metrics: Prometheus, track: _Track, limit: LatencyLimit) -> _Said:
    buckets = dict(track.past.buckets)
    stands = checks.standing_for(limit.seconds, [b for b in buckets if 0 < b < INFINITE])
    timed = buckets.get(INFINITE, 0)
    queries = metrics.texts(counters.WINDOW_SECONDS, track.counted)[1:]
    if timed and not stands:
        why = f"no bucket ends at or beyond {limit.seconds:g} s"
        return _Said(track=track.name, says=NONE, why=why, queries=queries, requests=timed)
    slow = timed - buckets[stands] if timed else 0
    return _share(track, slow, timed, limit.slow_share, queries)


def _share(track: _Track, bad: int, total: int, limit: float, queries: tuple[str, ...]) -> _Said:
    minutes = f"{counters.WINDOW_SECONDS / 60:g} min"
    if not total:
        why = f"no requests were counted in {minutes}; `switchgear doctor` looks for the reason"
        return _Said(track=track.name, says=NONE, why=why, queries=queries, requests=0)
    share = bad / total
    return _Said(
        track=track.name,
        says=HOLDS if share <= limit else FAILS,
        why=f"{percent(share)} of {total} requests in {minutes}",
        queries=queries,
        value=share,
        requests=total,
    )


async def _user(
    metrics: Prometheus, key: str, text: str, found: Sequence[_Track]
) -> dict[str, Any]:
    """A check of the team's own, or everything that is wrong with it."""
    check = promql.read(key.removeprefix(keys.CHECK_PREFIX), text)
    if not isinstance(check, UserCheck):
        return _check(key, text, (), problems=check)
    said: list[_Said] = []
    readers: tuple[str, ...] = ()
    for track in found:
        try:
            readers = metrics.resolved(check.expression, track.checked).readers
            said.append(await _asked(metrics, check, track))
        except errors.MetricsUnavailable as error:
            said.append(_Said(track=track.name, says=NONE, why=error.diagnostics(), queries=()))
    return _check(key, text, said, readers=readers)


async def _asked(metrics: Prometheus, check: UserCheck, track: _Track) -> _Said:
    query = metrics.resolved(check.expression, track.checked).text
    measured = await metrics.value(check.expression, track.checked)
    requests = await _requests(metrics, check, track)
    queries = (query,) if query else ()
    if measured.value is None:
        reasons = measured.warnings or await _missing(metrics, check, track)
        return _Said(
            track=track.name, says=NONE, why="; ".join(reasons), queries=queries, requests=requests
        )
    why = f"{measured.value:.6g}, with {requests} requests in {check.window_seconds:g} s"
    return _Said(
        track=track.name,
        says=HOLDS if check.holds(measured.value) else FAILS,
        why="; ".join([why, *measured.warnings]),
        queries=queries,
        value=measured.value,
        requests=requests,
    )


async def _saturation(
    metrics: Prometheus, seen: Surroundings, found: Sequence[_Track]
) -> list[dict[str, Any]]:
    """What can run out, of which stable has a past: how much of it is used up now."""
    pods = tracks.pods_of(seen.run)
    (stable,) = pods.stable
    gauges = await metrics.saturation_past(stable, PAST_SECONDS)
    levels = await metrics.saturation({stable, *pods.canary})
    query = metrics.saturation_text({stable, *pods.canary})

    def said(track: _Track, gauge: Gauge) -> _Said:
        now = levels.of(pods.stable, gauge.name)
        value = levels.of(pods.canary, gauge.name) if track.name == "canary" else now
        if value is None:
            return _Said(track=track.name, says=NONE, why="no value now", queries=(query,))
        return _Said(
            track=track.name,
            says=FAILS if gauge.exhausted(value, now) else HOLDS,
            why=f"{value:.4g}",
            queries=(query,),
            value=value,
        )

    return [
        _check(
            f"saturation: {gauge.name}",
            f"far from what stable uses, which was {gauge.usual:.4g} at most in an hour",
            [said(track, gauge) for track in found],
            readers=("pods",),
        )
        for gauge in gauges
    ]


async def _requests(metrics: Prometheus, check: UserCheck, track: _Track) -> int:
    """How many requests the judge counts in the window of a check."""
    # The oldest scrape of a window only serves as the predecessor of the next one.
    window = check.window_seconds + track.past.gap
    series = joined(await metrics.samples(window, track.counted), track.counted)
    return past.read(series).total[0]


async def _missing(metrics: Prometheus, check: UserCheck, track: _Track) -> list[str]:
    """Why an expression has no value: which metrics have no series of the track."""
    found = []
    for metric in promql.metrics(check.expression):
        plain = f'{{__name__="{metric}"}}'
        of_track = metrics.resolved(plain, track.checked).text
        if of_track and await metrics.labels(of_track, counters.EXISTS_SECONDS):
            continue
        others = len(await metrics.labels(plain, counters.EXISTS_SECONDS))
        there = f"{others} of others" if others else "none at all"
        found.append(f"{metric} has no series of this track ({there})")
    return found or ["its value is no number, as it is when nothing is divided by nothing"]
