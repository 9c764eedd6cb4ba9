# SPDX-License-Identifier: Apache-2.0
"""Clients of the simulated application, and what became of their requests.

Requests are not events: between two changes of anything that matters the flow is constant, so it is
integrated when somebody looks or when something is about to change, with exact draws for what is
random.  Ten minutes of 400 requests a second then cost no more than ten minutes of silence.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controller.sim import dice
from controller.sim.apiserver.store import Event
from controller.sim.controllers.base import Cluster
from controller.sim.controllers.endpoints import ready_addresses, service_of
from controller.sim.controllers.gateway import KINDS, Backend, Gateway, Programmed, RouteKey
from controller.sim.controllers.pod_runtime import Server
from controller.sim.counters import (
    BackendName,
    Counters,
    Era,
    Labels,
    PodName,
    cpu_counters,
    pod_series,
    process_gauges,
    target_up,
)

ServiceKey = tuple[str, str]
"""Namespace and name of a Service."""

# Enough for an hour in which something changes or is looked at every 100 ms.
TIMELINE = 40_000

# What a proxy answers by itself is quick.
PROXY_ERROR_MS = 1.0


class Cause(StrEnum):
    """How a request ended."""

    OK = "ok"
    APPLICATION = "application error"
    NO_ENDPOINTS = "no endpoints"
    MISSING_SERVICE = "missing service"
    DEAD_POD = "dead pod"
    NO_ROUTE = "no route"


SHIFTING = frozenset(Cause) - {Cause.OK, Cause.APPLICATION}
"""The causes that are no fault of any version, but of how traffic was moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One kind of ending: for which client, by which version (empty if none was reached), how."""

    client: str
    version: str
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What happened between two moments of the loop's clock."""

    begin: float
    end: float
    counts: Mapping[Outcome, int]


@dataclass(slots=True, kw_only=True)
class Client:
    """An open-loop source of requests: through a route, or at a Service directly."""

    name: str
    rate: float
    """Requests a second."""
    route: RouteKey | None = None
    rule: int = 0
    service: ServiceKey | None = None
    lag: float = 0.0
    """Seconds by which a direct client's knowledge of endpoints is old."""
    credit: float = 0.0
    dice: dice.Apportion = field(default_factory=dice.Apportion)


@dataclass(slots=True, kw_only=True)
class _Pool:
    """Where a share of the requests goes: the servers behind one Service."""

    service: str
    """The proxy's label, empty for a direct client."""
    missing: bool
    servers: dict[str, Server | None]
    dice: dice.Apportion


_Flow = tuple[Client, dict[int, float], dict[int, _Pool]]
"""A client, the weights of its backends, and where each of them leads."""


class Traffic:
    """All clients, the endpoints as each of them knows them, and the proxy's counters."""

    def __init__(
        self,
        cluster: Cluster,
        gateway: Gateway,
        servers: Mapping[str, Server],
        *,
        era: Era = Era.ROUTE,
        gateway_name: tuple[str, str] = ("edge", "edge"),
        entrypoint: str = "web",
        pod_metrics: bool = False,
    ) -> None:
        """``servers`` are the pretended processes by address; ``gateway_name`` is for labels.

        With ``pod_metrics`` every pod counts its own answers, whichever way the requests came.
        """
        self.cluster = cluster
        self.gateway = gateway
        self.era = era
        self.counters = Counters(dice.source(cluster.rng.random()))
        self.outcomes: Counter[Outcome] = Counter()
        self.timeline: deque[Span] = deque(maxlen=TIMELINE)
        self._rng = dice.source(cluster.rng.random())
        source = dice.source(cluster.rng.random()) if pod_metrics else None
        self.pods = Counters(source, pod_series) if source else None
        self._servers = servers
        self._gateway_name = gateway_name
        self._entrypoint = entrypoint
        self._clients: dict[str, Client] = {}
        self._known: dict[float, dict[ServiceKey, tuple[str, ...]]] = {}
        self._balance: dict[tuple[str, str], dice.Apportion] = {}
        self._flows: list[_Flow] | None = []
        self._last = cluster.loop.time()
        self._end: Callable[[], None] = cluster.store.subscribe(self._observe)
        gateway.on_programmed.append(self._programmed)

    # --- clients ----------------------------------------------------------------------------------

    def through(
        self, route: ServiceKey, rate: float, *, rule: int = 0, kind: str = "httproutes"
    ) -> Client:
        """Send ``rate`` requests a second through one rule of a route."""
        name = f"{'' if kind == 'httproutes' else kind + '/'}{route[0]}/{route[1]}"
        return self._add(Client(name=name, rate=rate, route=(kind, *route), rule=rule))

    def direct(self, service: ServiceKey, rate: float, *, lag: float = 0.5) -> Client:
        """Send ``rate`` requests a second to a Service, with endpoints ``lag`` seconds old."""
        name = f"direct:{service[0]}/{service[1]}"
        return self._add(Client(name=name, rate=rate, service=service, lag=lag))

    def _add(self, client: Client) -> Client:
        self.advance()
        self._clients[client.name] = client
        if client.service is not None and client.lag not in self._known:
            slices = self.cluster.store.scan("endpointslices")
            keys = {key for item in slices if (key := service_of(item)) is not None}
            self._known[client.lag] = {
                key: ready_addresses(self.cluster.store, key) for key in sorted(keys)
            }
        self._plan()
        return client

    def set_rate(self, client: Client, rate: float) -> None:
        """Change the rate of a client from now on."""
        self.advance()
        client.rate = rate

    # --- what is known ----------------------------------------------------------------------------

    def counts(self, begin: float, end: float) -> Counter[Outcome]:
        """The outcomes of all spans that lie between two moments of the loop's clock."""
        self.advance()
        found: Counter[Outcome] = Counter()
        for span in self.timeline:
            if span.begin >= begin and span.end <= end:
                found.update(span.counts)
        return found

    def failures(self) -> Counter[Cause]:
        """Requests that failed by how traffic was moved, by cause."""
        self.advance()
        found: Counter[Cause] = Counter()
        for outcome, count in self.outcomes.items():
            if outcome.cause in SHIFTING:
                found[outcome.cause] += count
        return found

    def label(self, route: RouteKey, rule: int, backend: Backend) -> str:
        """The proxy's name for a backend."""
        return BackendName(
            route_kind=KINDS[route[0]],
            route_namespace=route[1],
            route=route[2],
            gateway_namespace=self._gateway_name[0],
            gateway=self._gateway_name[1],
            entrypoint=self._entrypoint,
            rule=rule,
            namespace=backend.namespace,
            service=backend.name,
            port=backend.port,
            index=backend.index,
        ).label(self.era)

    def scrape(self) -> list[tuple[Labels, float]]:
        """What the proxy exposes now, and every pod that lives."""
        self.advance()
        found = self.counters.scrape()
        if self.pods is not None:
            living = [server.pod for server in self._servers.values() if server.alive]
            self.pods.keep_alive(living)
            found += self.pods.scrape()
            found += [(target_up(pod), 1.0) for pod in living]
        for server in self._servers.values():
            if server.alive and server.open_files is not None:
                found += process_gauges(server.pod, server.open_files)
            if server.alive and server.throttled_seconds is not None:
                age = self.cluster.loop.time() - server.started
                found += cpu_counters(server.pod, age, min(age, server.throttled_seconds))
        return found

    # --- what changes -----------------------------------------------------------------------------

    def changed(self) -> None:
        """Account for everything until now; the flow is different from here on."""
        self.advance()
        if self._flows is not None:
            # The plan must be made of what holds from now on, and not of what the next change,
            # seconds later, will have made of it.
            self._flows = None
            self.cluster.loop.call_soon(self._plan)

    def stop(self) -> None:
        """Follow the store no longer."""
        self._end()

    def _programmed(self, state: Programmed) -> None:
        self.changed()
        self.counters.keep_only(
            {
                self.label(key, at, backend)
                for key, rules in state.routes.items()
                for at, rule in enumerate(rules)
                for backend in rule
            }
        )

    def _observe(self, event: Event) -> None:
        plural = event.resource.plural
        if plural == "services":
            if event.type != "MODIFIED":
                self.changed()
        elif plural == "endpointslices":
            key = service_of(event.obj)
            if key is not None:
                for lag in self._known:
                    self._learn_later(lag, key)

    def _learn_later(self, lag: float, key: ServiceKey) -> None:
        addresses = ready_addresses(self.cluster.store, key)

        def learn() -> None:
            if self._known[lag].get(key) != addresses:
                self.changed()
                self._known[lag][key] = addresses

        if lag > 0:
            self.cluster.loop.call_later(lag, learn)
        else:
            learn()

    # --- integration ------------------------------------------------------------------------------

    def advance(self) -> None:
        """Let all requests until now happen."""
        now = self.cluster.loop.time()
        elapsed = now - self._last
        if elapsed <= 0:
            return
        flows = self._flows if self._flows is not None else self._plan()
        counts: Counter[Outcome] = Counter()
        for client, weights, pools in flows:
            client.credit += client.rate * elapsed
            # Sums of floats must not lose a request: a credit of 39.9999999 is forty.
            count = int(client.credit + 1e-6)
            client.credit -= count
            self._send(client, count, weights, pools, counts)
        if counts:
            self.outcomes.update(counts)
            self.timeline.append(Span(begin=self._last, end=now, counts=counts))
        self._last = now

    def _plan(self) -> list[_Flow]:
        """Work out where requests go until the next change."""
        flows: list[_Flow] = []
        for client in self._clients.values():
            weights: dict[int, float] = {}
            pools: dict[int, _Pool] = {}
            if client.service is not None:
                weights[0] = 1.0
                known = self._known[client.lag].get(client.service, ())
                exists = self.cluster.store.peek("services", *client.service) is not None
                pools[0] = self._pool(client, "", known, exists=exists)
            elif client.route is not None:
                rules = self.gateway.current.get(client.route, ())
                backends = rules[client.rule] if client.rule < len(rules) else ()
                for at, backend in enumerate(backends):
                    weights[at] = float(backend.weight)
                    label = self.label(client.route, client.rule, backend)
                    there = backend.exists and backend.granted
                    pools[at] = self._pool(client, label, backend.addresses, exists=there)
            flows.append((client, weights, pools))
        self._flows = flows
        return flows

    def _pool(
        self, client: Client, label: str, addresses: tuple[str, ...], *, exists: bool
    ) -> _Pool:
        return _Pool(
            service=label,
            missing=not exists,
            servers={address: self._servers.get(address) for address in addresses},
            dice=self._balance.setdefault((client.name, label), dice.Apportion()),
        )

    def _send(
        self,
        client: Client,
        count: int,
        weights: Mapping[int, float],
        pools: Mapping[int, _Pool],
        counts: Counter[Outcome],
    ) -> None:
        shares = client.dice.split(count, weights)
        if count and not shares:
            counts[Outcome(client=client.name, version="", cause=Cause.NO_ROUTE)] += count
        for at, share in shares.items():
            for version, cause, number in self._answers(pools[at], share):
                counts[Outcome(client=client.name, version=version, cause=cause)] += number

    def _answers(self, pool: _Pool, count: int) -> list[tuple[str, Cause, int]]:
        """How the requests to one Service end; the proxy's counters are moved on the way."""
        if pool.missing:
            return [("", Cause.MISSING_SERVICE, count)]
        if not pool.servers:
            self._count(pool, 503, count, PROXY_ERROR_MS)
            return [("", Cause.NO_ENDPOINTS, count)]
        found: list[tuple[str, Cause, int]] = []
        even = dict.fromkeys(pool.servers, 1.0)
        groups: Counter[tuple[str, float, float, PodName | None]] = Counter()
        for address, share in pool.dice.split(count, even).items():
            server = pool.servers[address]
            if server is None or not server.alive:
                self._count(pool, 502, share, PROXY_ERROR_MS)
                found.append(("", Cause.DEAD_POD, share))
            else:
                # Like servers are drawn for together, unless somebody counts each by itself.
                pod = server.pod if self.pods is not None else None
                groups[server.version, server.error_rate, server.latency_ms, pod] += share
        for (version, error_rate, latency, pod), share in groups.items():
            bad = dice.binomial(self._rng, share, error_rate)
            self._count(pool, 500, bad, latency, pod)
            self._count(pool, 200, share - bad, latency, pod)
            found.extend([(version, Cause.APPLICATION, bad), (version, Cause.OK, share - bad)])
        return [item for item in found if item[2]]

    def _count(
        self, pool: _Pool, code: int, count: int, latency_ms: float, pod: PodName | None = None
    ) -> None:
        if pool.service:
            self.counters.add(pool.service, code, count, latency_ms)
        if pod is not None and self.pods is not None:
            self.pods.add(pod.subject, code, count, latency_ms)
