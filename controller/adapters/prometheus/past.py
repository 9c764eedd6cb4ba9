# SPDX-License-Identifier: Apache-2.0
"""The store as it was at a moment of the past, by `prometheus-api-client` (extra `backtest`).

The library is synchronous, waits for ever and tries again by default, knows nothing of warnings and
is untyped: so it is called from one thread, with a deadline, each query once, and nowhere else. Raw
samples are asked for in chunks, whose edges Prometheus 2 closes on both sides: what is there twice
is taken once.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

from controller.adapters.prometheus import asking, ranges
from controller.adapters.prometheus.asking import Answer, Query, named, thinned
from controller.adapters.prometheus.client import HISTORY_DEADLINE_SECONDS, LATENCY_STEP
from controller.adapters.prometheus.providers import Choice
from controller.adapters.prometheus.saturation import Saturation
from controller.adapters.prometheus.wire import Row
from controller.core.backtest.measured import Grid, Line
from controller.core.errors import MetricsTimedOut, MetricsUnavailable
from controller.core.evidence import repeats
from controller.core.evidence.measures import Gauge
from controller.core.evidence.readings import READ_SECONDS
from controller.core.evidence.saturation import WINDOW_SECONDS
from controller.core.evidence.series import PodsKey, TrackKey
from controller.ports.metrics import Batch

CHUNK_SECONDS: Final = 1800.0
"""Raw samples of so long are asked for at once: 40 series of a scrape a second make 72,000."""

STORE_PART: Final = 5 / 6
"""The store is told to give up after this part of our patience: so it does before we do."""


class Archive:
    """History by key, as of any moment."""

    def __init__(
        self, url: str, choice: Choice, *, patience_seconds: float = HISTORY_DEADLINE_SECONDS
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: Address of the store, the part before `/api/v1`.
            choice: Whom to ask, and by what names.
            patience_seconds: How long to wait for a connection, and for an answer on it.
        """
        self._choice = choice
        self._patience = patience_seconds
        self._told = {"timeout": f"{1000 * STORE_PART * patience_seconds:.0f}ms"}
        self._saturation = Saturation()
        # A store that is too busy for a query gets no second one while nobody waits for the first.
        self._store = PrometheusConnect(url=url.rstrip("/"), timeout=patience_seconds, retry=0)
        # A call cannot be cancelled: the next one waits for its end, and is never beside it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="past")
        self.points = 0
        """Samples that were read so far."""
        self.coarse = False
        """Whether the store refused raw samples, so that thinned ones were taken."""

    def close(self) -> None:
        """Close the connections."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    def at(self, moment: float) -> "View":
        """The store as it was then, in seconds since the epoch."""
        return View(archive=self, choice=self._choice, saturation=self._saturation, moment=moment)

    async def covered(self, key: TrackKey, begin: float, end: float) -> tuple[list[float], float]:
        """When there were samples of a key: times a step apart, and the step in seconds.

        Raises:
            MetricsTimedOut: The store, or its refusal, took too long.
            MetricsUnavailable: In every other case but a proper answer.
        """
        found, _ = asking.parts(self._choice, [key])
        step = ranges.step(end - begin, 60.0)
        times: set[float] = set()
        for part in found:
            rows = await self._ranged(f"count({part.query(None, '', 0.0).text})", begin, end, step)
            times |= {at for row in rows for at, _ in row.values}
        return sorted(times), float(step)

    async def ask(self, text: str, at: float) -> list[Row]:
        """The matrix that a query makes at a moment. Errors as `covered`."""
        return await self._sent(self._store.custom_query, text, {"time": f"{at:.3f}", **self._told})

    def parts(self, grid: Grid) -> int:
        """How many queries `lines` sends for each of its two tracks."""
        return -(-grid.count // ranges.MOST_POINTS)

    async def lines(
        self, expression: str, key: PodsKey, pods: Collection[str], grid: Grid
    ) -> tuple[Line, Line, str]:
        """What a check's expression said of these pods and of all others of the key.

        Beside the values it tells why there is none of these pods, in case there is none. Errors
        as `covered`.
        """
        found = []
        for text in ranges.parted(self._choice, expression, key, pods):
            rows: list[Row] = []
            for part in range(self.parts(grid)):
                first = part * ranges.MOST_POINTS
                last = min(first + ranges.MOST_POINTS, grid.count) - 1
                rows += await self._ranged(text, grid.at(first), grid.at(last), READ_SECONDS)
            found.append((ranges.line(rows, grid), rows))
        (mine, rows), (others, _) = found
        return mine, others, ranges.valueless(rows)

    async def figures(
        self, key: PodsKey, names: Collection[str], grid: Grid
    ) -> Mapping[str, Mapping[str, Line]]:
        """By the names of these items of saturation, the figures of each pod of the key.

        Raw samples, as a daemon has them; thinned ones where the store refuses those. Errors as
        `covered`.
        """
        end = grid.at(grid.count - 1)
        text = named(lambda: self._saturation.selector([key]))
        rows = await self.raw(text, end, end - grid.begin + WINDOW_SECONDS)
        moments = [grid.at(number) for number in range(grid.count)]
        return self._saturation.lines(key, names, rows, moments)

    async def raw(self, selector: str, moment: float, seconds: float) -> list[Row]:
        """All samples of so many seconds, in chunks; thinned out where the store refuses them."""
        if not self.coarse:
            try:
                return _merged(
                    [
                        row
                        for end, span in _chunks(moment, seconds)
                        for row in await self.ask(f"{selector}[{span}ms]", end)
                    ]
                )
            except MetricsUnavailable as error:
                if "too many samples" not in error.message:
                    raise
                self.coarse = True
        return await self.ask(selector + thinned(seconds, LATENCY_STEP), moment)

    async def _ranged(self, text: str, begin: float, end: float, step: float) -> list[Row]:
        """The matrix of a range query; its begin and end in whole seconds, as the library sends."""
        first, last = (datetime.fromtimestamp(at, UTC) for at in (begin, end))
        return await self._sent(
            self._store.custom_query_range, text, first, last, f"{step:g}", self._told
        )

    async def _sent(self, call: Callable[..., Any], *words: Any) -> list[Row]:
        """The rows of an answer; a failure that took as long as an answer may is one of time.

        The library, the store and what is between them all have words of their own for that.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            rows = await self._called(call, *words)
        except MetricsUnavailable as error:
            if loop.time() - began < STORE_PART * self._patience:
                raise
            raise MetricsTimedOut("metrics store did not answer in time") from error
        self.points += sum(len(row.values) + len(row.histograms) for row in rows)
        return rows

    async def _called(self, call: Callable[..., Any], *words: Any) -> list[Row]:
        """What the library says, in our own words."""
        try:
            # One wait for the connection and one for the answer, after which the call has ended.
            async with asyncio.timeout(2 * self._patience):
                loop = asyncio.get_running_loop()
                told = await loop.run_in_executor(self._thread, call, *words)
            return msgspec.convert(told, list[Row])
        except PrometheusApiClientException as error:
            raise MetricsUnavailable(f"metrics store answered: {str(error)[:300]}") from error
        except TimeoutError as error:
            raise MetricsUnavailable("metrics store did not answer in time") from error
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            said = "metrics store gave no answer of Prometheus' query API"
            raise MetricsUnavailable(said, advice="give the address before /api/v1") from error
        except OSError as error:  # What `requests` raises is one; of an answer also the former.
            name = type(error).__name__
            raise MetricsUnavailable(f"metrics store cannot be reached: {name}") from error


class View:
    """The port `Counts` at one moment of the past. Errors as the port has them."""

    def __init__(
        self, *, archive: Archive, choice: Choice, saturation: Saturation, moment: float
    ) -> None:
        """`moment` in seconds since the epoch."""
        self._archive = archive
        self._choice = choice
        self._saturation = saturation
        self._moment = moment

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """See the port. Raw samples in chunks; where the store refuses those thinned ones, as far
        apart as scrapes were.
        """
        parts, warnings = asking.parts(self._choice, keys)
        queries = [part.query(None, "", 0.0) for part in parts]
        queries += asking.timed(parts, "", 0.0)
        answers = [
            await self._archive.raw(query.text, self._moment, since_seconds) for query in queries
        ]
        if not self._archive.coarse:
            return self._batch(queries, answers, warnings)
        queries = [replace(query, thinned=True) for query in queries]
        found = self._batch(queries, answers, warnings)
        series = {key: repeats.without(track) for key, track in found.series.items()}
        return replace(found, series=series)

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """See the port: the query of a daemon that had asked then."""
        parts, warnings = asking.parts(self._choice, [key])
        queries = [part.query(None, thinned(seconds), 0.0) for part in parts]
        return await self._asked(queries, warnings)

    async def latency_history(self, key: TrackKey, seconds: float) -> Batch:
        """See the port."""
        parts, warnings = asking.parts(self._choice, [key])
        queries = asking.timed(parts, thinned(seconds, LATENCY_STEP), 0.0)
        return await self._asked(queries, warnings)

    async def saturation_past(self, key: PodsKey, seconds: float) -> tuple[Gauge, ...]:
        """See the port `Values`."""
        text = named(lambda: self._saturation.past_query(key, seconds))
        rows = await self._archive.ask(text, self._moment)
        return self._saturation.past(key, rows, self._moment, seconds)

    async def _asked(self, queries: list[Query], warnings: dict[str, None]) -> Batch:
        answers = [await self._archive.ask(query.text, self._moment) for query in queries]
        return self._batch(queries, answers, warnings)

    def _batch(
        self, queries: list[Query], answers: list[list[Row]], warnings: dict[str, None]
    ) -> Batch:
        if not queries:
            return Batch(evaluated_at=self._moment, warnings=tuple(warnings))
        whole: list[Answer] = [(rows, [], self._moment) for rows in answers]
        return asking.sorted_out(queries, whole, warnings)


def _chunks(moment: float, seconds: float) -> Iterable[tuple[float, int]]:
    """Ends and lengths in milliseconds, oldest first, of the chunks that make the whole."""
    begin = moment - seconds
    count = max(math.ceil(seconds / CHUNK_SECONDS), 1)
    for number in range(1, count + 1):
        end = min(begin + number * CHUNK_SECONDS, moment)
        yield end, math.ceil(1000 * (end - begin - (number - 1) * CHUNK_SECONDS))


def _merged(rows: Iterable[Row]) -> list[Row]:
    """One row for each series, its samples in the order of time and each once."""
    found: dict[tuple[tuple[str, str], ...], Row] = {}
    for row in rows:
        name = tuple(sorted(row.metric.items()))
        known = found.setdefault(name, Row(metric=row.metric, values=[], histograms=[]))
        last = known.values[-1][0] if known.values else -math.inf
        known.values.extend(sample for sample in row.values if sample[0] > last)
        last = known.histograms[-1][0] if known.histograms else -math.inf
        known.histograms.extend(sample for sample in row.histograms if sample[0] > last)
    return list(found.values())
