# SPDX-License-Identifier: Apache-2.0
"""Asking Prometheus, with a bound on everything: time, size, requests in flight, query length.

Queries are range selectors (`metric{...}[15s]`) evaluated at one instant: that returns the raw
samples in the window with their scrape times, never an extrapolated rate. They go by POST, since
the union of many Service names does not fit into a URL.
"""

import asyncio
import email.utils
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import httpx

from controller.adapters.prometheus import wire
from controller.adapters.prometheus.mapping import Sorter
from controller.adapters.prometheus.providers import Names, Provider
from controller.adapters.prometheus.wire import Row
from controller.core.errors import MetricsUnavailable
from controller.ports.metrics import Batch, ServiceKey

MOST_IN_FLIGHT = 32
"""More would only queue up inside the store, whose own default is 20 at a time."""

DEADLINE_SECONDS = 5.0
"""A judge that looks every second has no use for older answers."""

HISTORY_DEADLINE_SECONDS = 30.0
"""History is asked once per run, before traffic moves, and may touch blocks on disk."""

LARGEST_BODY = 64 * 1024 * 1024
"""About a million samples: 100 runs at 1 s scrapes. Beyond it the window or labels are wrong."""

LONGEST_MATCHER = 4096
"""Prometheus compiles the expression on every query; a longer list costs more than it saves."""

HISTORY_POINTS = 1440
"""Samples per series of history: 6 h at 15 s, the length the dispersion was calibrated on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    text: str
    deadline: float


class Prometheus:
    """The port `Metrics` on a Prometheus, or on anything that speaks its query API."""

    def __init__(
        self,
        url: str,
        provider: Provider,
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
            provider: What the data plane calls its metrics.
            now: Wall clock in seconds since the epoch, used where the store tells no time.
            headers: Sent with every query, such as credentials or a tenant.
            transport: Stands in for the network in tests.
            deadline_seconds: For one look, all its queries together.
            largest_body: Bytes of one answer.
        """
        self._provider = provider
        self._now = now
        self._deadline = deadline_seconds
        self._largest = largest_body
        self._slots = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers=headers,
            transport=transport,
            timeout=httpx.Timeout(deadline_seconds),
            limits=httpx.Limits(max_connections=MOST_IN_FLIGHT),
            # A redirect could carry the credentials to another host.
            follow_redirects=False,
        )
        self.queries = 0
        """How many queries were sent, for the daemon's own metrics."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def samples(self, since_seconds: float, services: Collection[ServiceKey]) -> Batch:
        """See the port. The queries run side by side, one per metric of the provider."""
        if not services:
            return Batch(evaluated_at=self._now())
        provider, names = self._provider, self._names(services)
        window = f"[{max(math.ceil(since_seconds * 1000), 1)}ms]"
        metrics = [provider.requests.metric]
        metrics += [provider.latency.metric] if provider.latency else []
        queries = [
            _Query(text=self._selector(metric, names) + window, deadline=self._deadline)
            for metric in metrics
        ]
        return await self._look(queries, names)

    async def history(self, service: ServiceKey, seconds: float) -> Batch:
        """See the port. A subquery thins the samples out at the store."""
        names = self._names([service])
        step = max(math.ceil(seconds / HISTORY_POINTS), 1)
        selector = self._selector(self._provider.requests.metric, names)
        text = f"{selector}[{math.ceil(seconds)}s:{step}s]"
        return await self._look([_Query(text=text, deadline=HISTORY_DEADLINE_SECONDS)], names)

    def _names(self, services: Collection[ServiceKey]) -> Names:
        try:
            return Names(self._provider, services)
        except ValueError as error:
            raise MetricsUnavailable(f"cannot ask for metrics: {error}") from error

    def _selector(self, metric: str, names: Names) -> str:
        pattern = names.matcher(LONGEST_MATCHER).replace("\\", "\\\\").replace('"', '\\"')
        return f'{metric}{{{self._provider.service.label}=~"{pattern}"}}'

    async def _look(self, queries: list[_Query], names: Names) -> Batch:
        """Run the queries and sort their rows; one that fails fails the look, never half of it."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._query(query)) for query in queries]
        except* MetricsUnavailable as failed:
            first = failed.exceptions[0]
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None
        answers = [task.result() for task in tasks]
        sorter = Sorter(provider=self._provider, names=names)
        for same in names.ambiguous:
            sorter.warnings[f"{same} read the same in this provider's metrics; no data"] = None
        for _, warnings, _ in answers:
            sorter.warnings.update(dict.fromkeys(warnings[:10]))
        sorter.add_requests(answers[0][0])
        if self._provider.latency and len(answers) > 1:
            sorter.add_buckets(answers[1][0], self._provider.latency)
        services = sorter.services()
        # The earliest answer bounds how old the data are.
        evaluated = min(answered for _, _, answered in answers)
        return Batch(evaluated_at=evaluated, services=services, warnings=tuple(sorter.warnings))

    async def _query(self, query: _Query) -> tuple[list[Row], list[str], float]:
        """Rows, warnings and the time of the answer.

        Raises:
            MetricsUnavailable: In every case but a proper answer.
        """
        try:
            async with asyncio.timeout(query.deadline), self._slots:
                self.queries += 1
                status, headers, body = await self._post(query)
        except TimeoutError as error:
            raise MetricsUnavailable(
                f"metrics store did not answer within {query.deadline:g} s"
            ) from error
        except httpx.TimeoutException as error:
            raise MetricsUnavailable("metrics store did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise MetricsUnavailable(
                f"metrics store cannot be reached: {type(error).__name__} {error}".rstrip()
            ) from error
        rows, warnings = wire.matrix(status, body)
        return rows, warnings, self._answered_at(headers)

    async def _post(self, query: _Query) -> tuple[int, httpx.Headers, bytes]:
        request = self._client.build_request(
            "POST",
            "api/v1/query",
            data={"query": query.text, "timeout": f"{math.ceil(query.deadline)}s"},
            timeout=query.deadline,
        )
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._largest:
                    raise MetricsUnavailable(
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
