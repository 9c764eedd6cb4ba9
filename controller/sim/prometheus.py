# SPDX-License-Identifier: Apache-2.0
"""A Prometheus that scrapes the simulated proxy and pods and answers instant queries about them.

It understands plain selectors only, instant or with a range, because raw samples with their scrape
times are what evidence is made of; what is computed from them is told beforehand.  Everything
around the samples is as the real one does it: births, staleness, number formats, error bodies, and
the ways in which it fails.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qs

import msgspec

from controller.sim.clock import WallClock, parse_rfc3339
from controller.sim.computed import Computed, computes
from controller.sim.counters import Labels
from controller.sim.promql import QueryError, Selector, parse

Scrape = Callable[[], Iterable[tuple[Labels, float]]]
Answer = tuple[int, dict[str, str], bytes]

# How far back an instant vector looks for the last sample.
LOOKBACK_SECONDS = 300.0

# Samples older than this are forgotten; no query of a canary looks back further than an hour.
RETENTION_SECONDS = 3_600.0
_TRIM_AT = 512
_UP: Labels = (("__name__", "up"),)


class Trouble(Enum):
    """What may be wrong with it."""

    NONE = "nothing"
    DOWN = "connection refused"
    SLOW = "answers late"
    NAN = "every value is NaN"
    EMPTY = "no series at all"
    STATUS = "answers with an error status"


@dataclass(slots=True)
class Faults:
    """The switches of its failures; all may be changed at any time."""

    trouble: Trouble = Trouble.NONE
    status: int = 503
    """The status of :attr:`Trouble.STATUS`: 400, 422, 500 or 503."""
    delay: float = 30.0
    """Seconds of :attr:`Trouble.SLOW`."""
    hide: str = ""
    """Series whose ``service`` or ``pod`` contains this text are missing."""
    frozen: bool = False
    """Scrapes stop without a word: answers are older and older."""
    target_down: bool = False
    """Scrapes fail: ``up`` is 0 and the series go stale."""
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Series:
    labels: dict[str, str]
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def append(self, at: float, value: float) -> None:
        if len(self.times) > _TRIM_AT and self.times[_TRIM_AT // 2] < at - RETENTION_SECONDS:
            del self.times[: _TRIM_AT // 2]
            del self.values[: _TRIM_AT // 2]
        self.times.append(at)
        self.values.append(value)

    @property
    def live(self) -> bool:
        return bool(self.values) and not _is_stale(self.values[-1])


# Prometheus marks the end of a series with one particular NaN; any other NaN is a value.
STALE = float("nan")


def _is_stale(value: float) -> bool:
    return value is STALE


class Prometheus:
    """Scrapes ``scrape`` every ``interval`` seconds and answers the HTTP API."""

    def __init__(
        self, scrape: Scrape, wall: WallClock, *, interval: float = 5.0, job: str = "traefik"
    ) -> None:
        """``start`` begins the scraping."""
        self.interval = interval
        self.faults = Faults()
        self.queries = 0
        """How many queries were received, failed ones included."""
        self.computed = Computed()
        self.subqueries = False
        """Whether it answers subqueries of selectors; one that refuses them is without a past."""
        self._scrape = scrape
        self._wall = wall
        self._target = (("instance", "127.0.0.1:8082"), ("job", job))
        self._series: dict[Labels, _Series] = {}
        self._timer: asyncio.TimerHandle | None = None

    # --- scraping ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Scrape now and then at every interval."""
        self.stop()
        self._tick()

    def stop(self) -> None:
        """Scrape no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.interval, self._tick)
        if not self.faults.frozen:
            self.scrape()

    def scrape(self) -> None:
        """Take one sample of every series, and end those that are gone."""
        # Scrape times are whole milliseconds.
        now = math.floor(self._wall.timestamp() * 1000.0) / 1000.0
        up = not self.faults.target_down
        found = self._scrape() if up else ()
        seen: set[Labels] = set()
        for labels, value in [*found, (_UP, 1.0 if up else 0.0)]:
            seen.add(labels)
            series = self._series.get(labels)
            if series is None:
                # What has a target of its own says so itself; the rest is the proxy's.
                named = {**dict(self._target), **dict(labels)}
                series = self._series[labels] = _Series(dict(sorted(named.items())))
            series.append(now, value)
        for labels, series in self._series.items():
            if labels not in seen and series.live:
                series.append(now, STALE)

    # --- answering --------------------------------------------------------------------------------

    async def handle(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        """Answer one HTTP request.  Raises ConnectionRefusedError while it is down."""
        del headers
        if self.faults.trouble is Trouble.DOWN:
            raise ConnectionRefusedError(111, "Connection refused")
        if self.faults.trouble is Trouble.SLOW:
            await asyncio.sleep(self.faults.delay)
        if path in {"/-/healthy", "/-/ready"}:
            return 200, {"content-type": "text/plain; charset=utf-8"}, b"Prometheus is Ready.\n"
        if path == "/api/v1/status/buildinfo":
            return _json(200, {"status": "success", "data": {"version": "3.7.0"}})
        if path != "/api/v1/query" or method not in {"GET", "POST"}:
            return 404, {"content-type": "text/plain; charset=utf-8"}, b"404 page not found\n"
        self.queries += 1
        if self.faults.trouble is Trouble.STATUS:
            return self._failure()
        parameters = _parameters(query, body if method == "POST" else b"")
        try:
            return self._at_once(parameters)
        except QueryError as error:
            return _error(400, "bad_data", f'invalid parameter "query": {error}')
        except ValueError as error:
            return _error(400, "bad_data", f'invalid parameter "time": {error}')

    def _failure(self) -> Answer:
        match self.faults.status:
            case 400:
                return _error(400, "bad_data", 'invalid parameter "query": 1:1: parse error')
            case 422:
                text = "query processing would load too many samples into memory"
                return _error(422, "execution", text)
            case 500:
                return _error(500, "internal", "opening storage failed")
            case status:
                plain = {"content-type": "text/plain; charset=utf-8"}
                return status, plain, b"Service Unavailable\n"

    def _at_once(self, parameters: Mapping[str, str]) -> Answer:
        text = parameters.get("query", "")
        moment = _moment(parameters.get("time"), self._wall.timestamp())
        return (
            self._computed(text, moment) if computes(text) else self._evaluate(parse(text), moment)
        )

    def _computed(self, text: str, moment: float) -> Answer:
        value = self.computed.at(text, moment)
        if value is None or self.faults.trouble is Trouble.EMPTY:
            return self._reply("vector", [])
        point = {"metric": {}, "value": [_time(moment), self._value(value)]}
        return self._reply("vector", [point])

    def _evaluate(self, selector: Selector, moment: float) -> Answer:
        result: list[dict[str, object]] = []
        at = moment - selector.offset
        if selector.step is not None and not self.subqueries:
            raise QueryError("1:1: parse error: subqueries are not understood here")
        for series in self._series.values():
            if self._hidden(series) or not selector.matches(series.labels):
                continue
            if selector.window is not None:
                begin, step = at - selector.window, selector.step
                values = (
                    self._thinned(series, begin, at, step)
                    if step
                    else self._window(series, begin, at)
                )
                if values:
                    result.append({"metric": series.labels, "values": values})
            else:
                value = self._instant(series, at, moment)
                if value is not None:
                    result.append({"metric": series.labels, "value": value})
        return self._reply("vector" if selector.window is None else "matrix", result)

    def _reply(self, kind: str, result: Sequence[object]) -> Answer:
        reply: dict[str, object] = {
            "status": "success",
            "data": {"resultType": kind, "result": result},
        }
        if self.faults.warnings:
            reply["warnings"] = list(self.faults.warnings)
        return _json(200, reply)

    def _hidden(self, series: _Series) -> bool:
        if self.faults.trouble is Trouble.EMPTY:
            return True
        named = (series.labels.get("service", ""), series.labels.get("pod", ""))
        return bool(self.faults.hide) and any(self.faults.hide in name for name in named)

    def _window(self, series: _Series, begin: float, end: float) -> list[list[object]]:
        """The samples after ``begin`` and up to ``end``: ranges are open on the left."""
        first, last = bisect_right(series.times, begin), bisect_right(series.times, end)
        return [
            [_time(series.times[i]), self._value(series.values[i])]
            for i in range(first, last)
            if not _is_stale(series.values[i])
        ]

    def _thinned(
        self, series: _Series, begin: float, end: float, step: float
    ) -> list[list[object]]:
        """The value at each whole multiple of the step after ``begin`` and up to ``end``."""
        moments = (
            n * step for n in range(math.floor(begin / step) + 1, math.floor(end / step) + 1)
        )
        return [value for at in moments if (value := self._instant(series, at, at)) is not None]

    def _instant(self, series: _Series, at: float, moment: float) -> list[object] | None:
        last = bisect_right(series.times, at) - 1
        if last < bisect_left(series.times, at - LOOKBACK_SECONDS) or last < 0:
            return None
        value = series.values[last]
        return None if _is_stale(value) else [_time(moment), self._value(value)]

    def _value(self, value: float) -> str:
        return "NaN" if self.faults.trouble is Trouble.NAN else format_value(value)


def format_value(value: float) -> str:
    """A sample value as the HTTP API writes it: the shortest decimal, without an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value):
        return str(int(value))
    text = repr(value)
    return text if "e" not in text else f"{value:.17f}".rstrip("0")


def _time(seconds: float) -> float | int:
    rounded = round(seconds, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _parameters(query: Mapping[str, str] | str, body: bytes) -> dict[str, str]:
    found = dict(query) if isinstance(query, Mapping) else _form(query)
    return {**found, **_form(body.decode())}


def _form(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}


def _moment(text: str | None, now: float) -> float:
    if not text:
        return now
    try:
        return float(text)
    except ValueError:
        return parse_rfc3339(text)


def _json(status: int, reply: object) -> Answer:
    return status, {"content-type": "application/json"}, msgspec.json.encode(reply)


def _error(status: int, kind: str, text: str) -> Answer:
    return _json(status, {"status": "error", "errorType": kind, "error": text})
