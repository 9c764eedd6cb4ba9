# SPDX-License-Identifier: Apache-2.0
"""Asking Prometheus, with a bound on everything: time, size, requests in flight, query length.

Queries are range selectors (`metric{...}[15s]`) evaluated at one instant: that returns the raw
samples in the window with their scrape times, never an extrapolated rate. They go by POST, since
the union of many names does not fit into a URL.
"""

import asyncio
import email.utils
import math
from collections.abc import Callable, Collection, Coroutine, Iterable

import httpx

from controller.adapters.prometheus import asking, checks, wire
from controller.adapters.prometheus.asking import Answer, Query, named, thinned
from controller.adapters.prometheus.providers import Choice
from controller.adapters.prometheus.saturation import Saturation
from controller.core.errors import MetricsTooLarge, MetricsUnavailable
from controller.core.evidence.measures import Gauge
from controller.core.evidence.series import PodsKey, TrackKey
from controller.ports.metrics import Batch, Levels, Measured

MOST_IN_FLIGHT = 32
"""More would only queue up inside the store, whose own default is 20 at a time."""

MOST_ASIDE = 10
"""Queries in flight for what is measured beside requests, which have places of their own: the
judge's counts never wait behind queries that a team wrote."""

DEADLINE_SECONDS = 5.0
"""A judge that looks every second has no use for older answers."""

HISTORY_DEADLINE_SECONDS = 30.0
"""History is asked once per run, before traffic moves, and may touch blocks on disk."""

LARGEST_BODY = 64 * 1024 * 1024
"""About a million samples: 100 runs at 1 s scrapes. Beyond it the window or labels are wrong."""

LATENCY_STEP = 15
"""Seconds between two samples of a histogram's past, which is a dozen series for each pod."""


class Prometheus:
    """The port `Metrics` on a Prometheus, or on anything that speaks its query API."""

    def __init__(
        self,
        url: str,
        providers: Choice,
        *,
        now: Callable[[], float],
        headers: dict[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        largest_body: int = LARGEST_BODY,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: Address of the store, the part before `/api/v1`.
            providers: What gateways and applications call their metrics, and whom to ask.
            now: Wall clock in seconds since the epoch, used where the store tells no time.
            headers: Sent with every query, such as credentials or a tenant.
            transport: Stands in for the network in tests.
            deadline_seconds: For one look, all its queries together.
            largest_body: Bytes of one answer.
        """
        self._providers = providers
        self._saturation = Saturation()
        self._now = now
        self._deadline = deadline_seconds
        self._largest = largest_body
        self._slots = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._aside = asyncio.Semaphore(MOST_ASIDE)
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers=headers,
            transport=transport,
            timeout=httpx.Timeout(deadline_seconds),
            limits=httpx.Limits(max_connections=MOST_IN_FLIGHT + MOST_ASIDE),
            # A redirect could carry the credentials to another host.
            follow_redirects=False,
        )
        self.queries = 0
        """How many queries were sent, for the daemon's own metrics."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def samples(self, since_seconds: float, keys: Collection[TrackKey]) -> Batch:
        """See the port. The queries run side by side, one per metric of each provider."""
        return await self._look(*self._asked(since_seconds, keys))

    def texts(self, since_seconds: float, keys: Collection[TrackKey]) -> tuple[str, ...]:
        """The queries that `samples` sends for these keys, for people. Errors as `samples`."""
        queries, _ = self._asked(since_seconds, keys)
        return tuple(query.text for query in queries)

    async def labels(self, selector: str, since_seconds: float) -> tuple[dict[str, str], ...]:
        """The labels of every series that a selector finds. Errors as `samples`."""
        window = f"[{max(math.ceil(since_seconds), 1)}s]"
        rows, _, _ = await self._ask(selector + window, self._deadline)
        return tuple(row.metric for row in rows)

    def _asked(
        self, since_seconds: float, keys: Collection[TrackKey]
    ) -> tuple[list[Query], dict[str, None]]:
        parts, warnings = asking.parts(self._providers, keys)
        window = f"[{max(math.ceil(since_seconds * 1000), 1)}ms]"
        queries = [part.query(None, window, self._deadline) for part in parts]
        queries += asking.timed(parts, window, self._deadline)
        return queries, warnings

    async def history(self, key: TrackKey, seconds: float) -> Batch:
        """See the port. A subquery thins the samples out at the store."""
        parts, warnings = asking.parts(self._providers, [key])
        window = thinned(seconds)
        queries = [part.query(None, window, HISTORY_DEADLINE_SECONDS) for part in parts]
        return await self._look(queries, warnings)

    async def latency_history(self, key: TrackKey, seconds: float) -> Batch:
        """See the port."""
        parts, warnings = asking.parts(self._providers, [key])
        window = thinned(seconds, LATENCY_STEP)
        return await self._look(asking.timed(parts, window, HISTORY_DEADLINE_SECONDS), warnings)

    async def saturation(self, keys: Collection[PodsKey]) -> Levels:
        """See the port."""
        text = self.saturation_text(keys)
        rows, _, at = await self._ask(text, self._deadline, self._aside)
        return self._saturation.levels(keys, rows, at)

    def saturation_text(self, keys: Collection[PodsKey]) -> str:
        """The query that `saturation` sends, for people. Errors as `saturation`."""
        return named(lambda: self._saturation.query(keys))

    async def saturation_past(self, key: PodsKey, seconds: float) -> tuple[Gauge, ...]:
        """See the port."""
        text = named(lambda: self._saturation.past_query(key, seconds))
        rows, _, at = await self._ask(text, HISTORY_DEADLINE_SECONDS, self._aside)
        return self._saturation.past(key, rows, at, seconds)

    async def _look(self, queries: list[Query], warnings: dict[str, None]) -> Batch:
        """Run the queries and sort their rows; one that fails fails the look, never half of it."""
        if not queries:
            return Batch(evaluated_at=self._now(), warnings=tuple(warnings))
        answers = await _all(self._ask(query.text, query.deadline) for query in queries)
        return asking.sorted_out(queries, answers, warnings)

    async def value(self, expression: str, keys: Collection[TrackKey]) -> Measured:
        """See the port."""
        asked = checks.resolve(self._providers, expression, keys)
        if not asked.text:
            return Measured(at=self._now(), value=None, warnings=asked.warnings)
        status, headers, body = await self._sent(asked.text, self._deadline, self._aside)
        points, told = wire.points(status, body)
        return checks.one(points, self._answered_at(headers), (*asked.warnings, *told[:10]))

    def resolved(self, expression: str, keys: Collection[TrackKey]) -> checks.Resolved:
        """The query that `value` sends, for people. Errors as `value`."""
        return checks.resolve(self._providers, expression, keys)

    async def _ask(
        self, text: str, deadline: float, slots: asyncio.Semaphore | None = None
    ) -> Answer:
        """Ask for raw samples. Raises MetricsUnavailable in every case but a proper answer."""
        status, headers, body = await self._sent(text, deadline, slots or self._slots)
        rows, warnings = wire.matrix(status, body)
        return rows, warnings, self._answered_at(headers)

    async def _sent(
        self, text: str, deadline: float, slots: asyncio.Semaphore
    ) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body of an answer; `slots` bounds how many are waited for.

        Raises:
            MetricsUnavailable: None came in time, or it was too large.
        """
        try:
            async with asyncio.timeout(deadline), slots:
                self.queries += 1
                return await self._post(text, deadline)
        except TimeoutError as error:
            raise MetricsUnavailable(
                f"metrics store did not answer within {deadline:g} s"
            ) from error
        except httpx.TimeoutException as error:
            raise MetricsUnavailable("metrics store did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise MetricsUnavailable(
                f"metrics store cannot be reached: {type(error).__name__} {error}".rstrip()
            ) from error

    async def _post(self, text: str, deadline: float) -> tuple[int, httpx.Headers, bytes]:
        request = self._client.build_request(
            "POST",
            "api/v1/query",
            data={"query": text, "timeout": f"{math.ceil(deadline)}s"},
            timeout=deadline,
        )
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._largest:
                    raise MetricsTooLarge(
                        f"metrics store answered with more than {self._largest} bytes",
                        advice="narrow the window or drop labels from the metrics",
                    )
        finally:
            await response.aclose()
        return response.status_code, response.headers, bytes(body)

    def _answered_at(self, headers: httpx.Headers) -> float:
        """The store's own time where it tells it, so that two clocks are never compared.

        The Date header has whole seconds; the fraction lost makes data seem younger by less than
        one second, which no age limit depends on.
        """
        told = headers.get("date", "")
        try:
            return email.utils.parsedate_to_datetime(told).timestamp()
        except ValueError:
            return self._now()


async def _all(queries: Iterable[Coroutine[None, None, Answer]]) -> list[Answer]:
    """Every answer, or the first failure, with nothing left running.

    Not a task group: before Python 3.12.4 it would leave its own cancellation behind after a
    failure. And whoever cancels this hears of that also where a deadline is over in the same
    moment, as all of them are for a process that was stopped and wakes up.

    Raises:
        MetricsUnavailable: One of the queries failed.
    """
    tasks = [asyncio.ensure_future(query) for query in queries]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception):
            raise result
    return [result for result in ended if not isinstance(result, BaseException)]
