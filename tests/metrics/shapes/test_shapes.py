# SPDX-License-Identifier: Apache-2.0
"""Bad data from a real Prometheus: no version is called bad for it, and none passes by silence.

Everything is read by the daemon's own adapter, feed and judge. All cases run side by side in real
time, since most of it is waiting for scrapes: that is why there is one test and many faults told.
"""

import asyncio
import contextlib
import math
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest

from controller.adapters.prometheus.client import Prometheus
from controller.adapters.prometheus.providers import choose
from controller.core.evidence.judge import Outcome
from tests.metrics.shapes.catalogue import SHAPES
from tests.metrics.shapes.exporter import Exporter
from tests.metrics.shapes.practice import (
    DWELL,
    LOOK,
    OPENS,
    PHASES,
    TELLS,
    Case,
    config,
    followed,
    spoilt,
    tracks,
)
from tests.support.prometheus import Store, prometheus

pytestmark = pytest.mark.slow

UNTIL: Final = 55.0
"""Seconds after which a case that has not recovered will not."""

LATE: Final = 4.0
"""Seconds until a step's first whole scrape is in, on a machine that has other work to do."""

Answer = Callable[[httpx.Response], httpx.Response]


def _status(code: int, body: bytes) -> Answer:
    return lambda _: httpx.Response(code, content=body)


def _cut(answer: httpx.Response) -> httpx.Response:
    return httpx.Response(200, content=answer.content[: len(answer.content) // 2])


def _partial(answer: httpx.Response) -> httpx.Response:
    return httpx.Response(200, json={**answer.json(), "warnings": ["a store gateway is missing"]})


_ERROR: Final = b'{"status":"error","errorType":"internal","error":"opening storage failed"}'
_NOTHING: Final = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'

ANSWERS: Final[dict[str, Answer | None]] = {
    "answers 500": _status(500, _ERROR),
    "answers 503 with a page": _status(503, b"<html>no healthy upstream</html>"),
    "answers a page": _status(200, b"<html>log in</html>"),
    "answers with nothing": _status(200, _NOTHING),
    "answers are cut": _cut,
    "answers with warnings": _partial,
    "answers too late": None,
}
HARMLESS: Final = {"answers with warnings"}
"""The data are there, and the warning is logged."""


class Spoiling(httpx.AsyncBaseTransport):
    """Between us and the store: a proxy with a mind of its own."""

    def __init__(self, change: Answer | None, begin: float, span: tuple[float, float]) -> None:
        self._change, self._begin, self._span = change, begin, span
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        spoilt_ = self._span[0] <= time.time() - self._begin < self._span[1]
        if spoilt_ and self._change is None:
            await asyncio.sleep(5.0)
        answer = await self._real.handle_async_request(request)
        if not spoilt_ or self._change is None:
            return answer
        await answer.aread()
        # Its length and coding are those of what is sent now.
        return self._change(httpx.Response(200, content=answer.content))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._real.aclose()


def _spoil(
    exporter: Exporter, cases: Iterable[tuple[int, Case]], begin: float, *, lasting: bool = False
) -> None:
    """Every shape has its time; what is wrong before a step is so from the first scrape on."""
    for number, case in cases:
        since, until = spoilt(case.phase)
        for name in SHAPES[number].tracks:
            track = exporter.tracks[case.space, name]
            track.spoil = SHAPES[number].spoil
            track.since = begin + since if since else 0.0
            track.until = math.inf if lasting else begin + until


@contextlib.asynccontextmanager
async def _stores(folder: Path, *configs: str) -> AsyncIterator[list[Store]]:
    """One for each configuration."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number, text in enumerate(configs):
            held = prometheus(folder / str(number), text)
            found.append(await asyncio.to_thread(held.__enter__))
            stack.push_async_callback(asyncio.to_thread, held.__exit__, None, None, None)
        yield found


async def _restarted(store: Store, begin: float) -> None:
    """Away from the middle of the step on, and back before the end of what is called spoilt."""
    since, until = spoilt("mid")
    await asyncio.sleep(max(begin + since - time.time(), 0))
    await asyncio.to_thread(store.stop)
    await asyncio.sleep(max(begin + until - 2 - time.time(), 0))
    await asyncio.to_thread(store.start)


def _untold(case: Case) -> Iterator[str]:
    """Holds of which nobody says when they are expected to end, or that it is not known."""
    held = [look for look in case.looks if look.outcome is Outcome.HOLD]
    for look in held:
        known = all(words.startswith("about ") for words in look.expected)
        if not all(look.expected) or known is not bool(look.seconds_to_go):
            yield f"HOLD at {look.at:.1f} s: {look.codes}, {look.expected}, {look.seconds_to_go}"
            return


def _misjudged(cases: list[Case]) -> Iterator[str]:
    """Whether dwells that began in good order were expected to end at another time than they do."""
    ends = []
    for case in cases:
        told = (
            look.at + look.seconds_to_go
            for look in case.looks
            if look.seconds_to_go and look.at < spoilt(case.phase)[0] + TELLS
        )
        ends += list(told)[:1]
    due = OPENS + DWELL
    if len(ends) < len(cases) / 10:
        yield f"{len(ends)} of {len(cases)} dwells were told when they end"
    elif min(ends) < due - LOOK or statistics.median(ends) > due + LATE:
        yield f"dwells that end after {due:g} s were expected to end at {sorted(ends)}"


def _faults(name: str, case: Case, holds: Iterable[str]) -> list[str]:
    """Everything that went otherwise than promised."""
    label = f"{name}, {case.phase}"
    found = []
    bad = next((look for look in case.looks if look.outcome is Outcome.FAIL), None)
    if bad is not None:
        found.append(f"{label}: FAIL at {bad.at:.1f} s: {bad.codes}")
    during = case.during()
    if not during:
        found.append(f"{label}: nobody looked")
    passed = [look for look in during if look.outcome is Outcome.PASS]
    if case.phase in holds and passed:
        found.append(f"{label}: PASS at {passed[0].at:.1f} s")
    if any(not look.codes for look in case.looks):
        found.append(f"{label}: a verdict without a reason")
    found += [f"{label}: {what}" for what in _untold(case)]
    end = spoilt(case.phase)[1]
    if not case.lasting and case.passed_at(end) is None:
        found.append(f"{label}: has not recovered: {case.looks[-1].codes}")
    return found


def _unended(name: str, case: Case) -> Iterator[str]:
    """Whether its deadline has ended it as inconclusive, and was told of before."""
    label = f"{name}, {case.phase}, to its deadline"
    if any(look.outcome is not Outcome.HOLD for look in case.looks):
        yield f"{label}: {[look.outcome for look in case.looks]}"
    if not case.inconclusive:
        yield f"{label}: {case.memory.phase}, {case.memory.run.ending}, {case.effects}"
    if not any("the deadline ends the run in about " in words for words in case.told):
        yield f"{label}: nobody said when it ends: {case.told}"


def _unsound(sound: list[Case], bad: Case) -> Iterator[str]:
    """Whether the same rig passes, in time, what is in order, and fails what is not."""
    most = OPENS + DWELL + 2 * LATE
    for case in sound:
        passed = case.passed_at(0.0)
        if passed is None or passed > most:
            yield f"nothing wrong, {case.phase}: PASS at {passed}, not within {most:g} s"
        found = {look.outcome for look in case.looks}
        if Outcome.FAIL in found or case.looks[-1].outcome is not Outcome.PASS:
            yield f"nothing wrong, {case.phase}: {found}, {case.looks[-1].codes}"
    if bad.looks[-1].outcome is not Outcome.FAIL:
        yield f"a bad version: {bad.looks[-1].codes}"


TO_THE_END: Final = {"no series": "before", "no +Inf": "mid", "a gauge": "bake"}
"""Shapes that last until a deadline, and in which phase; another one of each does not."""


Shaped = list[tuple[int, Case]]


def _shaped() -> Shaped:
    return [
        (number, Case(space=f"shape-{number}-{phase}", phase=phase, lasting=phase in shape.lasting))
        for number, shape in enumerate(SHAPES)
        for phase in PHASES
    ]


def _ending() -> Shaped:
    numbers = {shape.name: number for number, shape in enumerate(SHAPES)}
    return [
        (numbers[name], Case(space=f"end-{numbers[name]}", phase=phase, ends=True))
        for name, phase in TO_THE_END.items()
    ]


@dataclass(slots=True)
class Cases:
    """All that run side by side."""

    shaped: Shaped = field(default_factory=_shaped)
    ending: Shaped = field(default_factory=_ending)
    answered: list[tuple[str, Case]] = field(
        default_factory=lambda: [
            (name, Case(space="sound", phase=phase)) for name in ANSWERS for phase in PHASES
        ]
    )
    stopped: list[Case] = field(
        default_factory=lambda: [Case(space="sound", phase=phase) for phase in ("mid", "bake")]
    )
    controls: list[Case] = field(
        default_factory=lambda: [Case(space=f"control-{phase}", phase=phase) for phase in PHASES]
    )
    bad: Case = field(default_factory=lambda: Case(space="bad", phase="mid", lasting=True))

    @property
    def scraped(self) -> list[Case]:
        """Those that have pods of their own."""
        return [case for _, case in (*self.shaped, *self.ending)] + [*self.controls, self.bad]

    def faults(self) -> Iterator[str]:
        """Everything that went otherwise than promised."""
        for number, case in self.shaped:
            yield from _faults(SHAPES[number].name, case, SHAPES[number].holds)
        for name, case in self.answered:
            yield from _faults(name, case, () if name in HARMLESS else PHASES)
        for case in self.stopped:
            yield from _faults("the store restarts", case, PHASES)
        for number, case in self.ending:
            yield from _unended(SHAPES[number].name, case)
        yield from _unsound(self.controls, self.bad)
        yield from _misjudged([case for _, case in self.shaped if case.phase != "before"])


async def test_bad_data_hold_and_come_to_an_end(tmp_path: Path) -> None:
    """All shapes of what is scraped and of what is answered, and a store that restarts.

    Each begins before a step's window, in the middle of a step, and in the bake. Beside them the
    same without any, and a version that is bad.
    """
    cases, exporter = Cases(), Exporter()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(exporter.serving())
        sound = Case(space="sound", phase="mid")
        exporter.tracks = dict(tracks([*cases.scraped, sound], time.time()))
        twice = [case.space for number, case in cases.shaped if SHAPES[number].twice]
        address = f"127.0.0.1:{exporter.port}"
        every = config(address, [*(case.space for case in cases.scraped), "sound"], twice)
        # The one that is stopped has its own, since each scrape costs this process time.
        steady, other = await stack.enter_async_context(
            _stores(tmp_path, every, config(address, ["sound"], []))
        )
        begin = time.time() + 2.0

        def client(store: Store, transport: httpx.AsyncBaseTransport | None = None) -> Prometheus:
            found = Prometheus(
                store.url, choose(["application"]), now=time.time, transport=transport,
                deadline_seconds=1.5,
            )  # fmt: skip
            stack.push_async_callback(found.close)
            return found

        _spoil(exporter, cases.shaped, begin)
        _spoil(exporter, cases.ending, begin, lasting=True)
        for pod in exporter.tracks[cases.bad.space, "canary"].pods:
            pod.bad = 0.3
        jobs = [
            followed(client(steady), cases.scraped, begin, UNTIL),
            followed(client(other), cases.stopped, begin, UNTIL),
            _restarted(other, begin),
        ]
        for name, case in cases.answered:
            between = Spoiling(ANSWERS[name], begin, spoilt(case.phase))
            jobs.append(followed(client(steady, between), [case], begin, UNTIL))
        await asyncio.gather(*jobs)
    faults = [*cases.faults()]
    assert not faults, "\n".join(faults)
