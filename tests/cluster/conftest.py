# SPDX-License-Identifier: Apache-2.0
"""What a test on the real control plane starts from; README.md shows how it is used."""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.cluster.installed import Installed, installed, operated
from tests.cluster.lab import leftovers, traffic
from tests.cluster.lab.application import App, until
from tests.cluster.lab.trail import Trail
from tests.cluster.lab.worker import Cluster
from tests.cluster.people import Desk, adopted
from tests.support.api import OverHttp, Port, real_client
from tests.support.realtime import Daemon, plain
from tests.support.world import emptied

QUICK = (
    "--drain-seconds=1",
    "--ready-seconds=60",
    "--roll-seconds=120",
)
"""How long a gateway takes until a weight is in force is as shipped; the rest is quick."""

STARTED = pytest.StashKey[list[float]]()

LOST = "cluster/lost"
"""Where pytest's cache keeps the names of failed tests, over both tries, whose second try mends
nothing: what is marked `once`, also where it failed at its end alone, when what its clients sent is
counted; and whatever failed by the trail of its daemons."""

TRAIL = "trail"
"""A property of the report of a test that failed so."""

LONGEST = (
    "test_uninstalled",
    "test_restarted",
    "test_replicas_mode",
    "test_rbac",
    "test_gitops",
    "test_autoscalers",
    "test_grants",
    "test_demo",
    "test_sidecar",
    "test_nothing_drifts",
    "test_trips",
)
"""Files whose tests take longer than a minute. They come first, some to each worker: it gives away
what it has last, but not its next test, so that a long one at the end would be waited for."""

_serial = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """Where the start times are gathered."""
    config.stash[STARTED] = []


@pytest.hookimpl(trylast=True)  # Whatever is left out is left out by then.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first for each worker, which begins with its part of all; the rest as it was."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    dealt: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for place, name in enumerate(LONGEST):
        dealt[place % workers] += [item for item in items if item.path.stem == name]
    rest = [item for item in items if item.path.stem not in LONGEST]
    items.clear()
    total = sum(map(len, dealt)) + len(rest)
    for number, part in enumerate(dealt):
        room = (total - len(items)) // (workers - number) - len(part)
        items += [*part, *rest[: max(room, 0)]]
        del rest[: max(room, 0)]
    items += rest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note how long the lab of this process took to start; a test that passed left good trails."""
    found = getattr(item, "funcargs", {})
    if isinstance(found.get("cluster"), Cluster):
        item.config.stash[STARTED] = [found["cluster"].seconds]
    yield
    lab = found.get("lab")
    for trail in lab.trails if isinstance(lab, Lab) else ():
        try:
            asyncio.run(trail.holds())
        except AssertionError:
            item.user_properties.append((TRAIL, "does not hold"))
            raise


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker noted."""
    node.config.stash[STARTED] += getattr(node, "workeroutput", {}).get("labs", [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands on what it noted; and a second try does not mend what was lost."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["labs"] = config.stash[STARTED]
        return
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    stats = reporter.stats if reporter else {}
    at_end = [report for report in stats.get("error", []) if report.when == "teardown"]
    lost = {report.nodeid for report in (*stats.get("failed", []), *at_end) if _lost(report)}
    if not config.pluginmanager.has_plugin("cacheprovider"):
        return
    if config.getoption("lf"):
        before = set(config.cache.get(LOST, []))
        if before and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        lost |= before
    config.cache.set(LOST, sorted(lost))


def _lost(report: pytest.TestReport) -> bool:
    """Whether requests or records were lost in a test that failed."""
    return "once" in report.keywords or TRAIL in dict(report.user_properties)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """How long the labs took to start, and in which tests something was lost."""
    kept = config.pluginmanager.has_plugin("cacheprovider")
    lost = config.cache.get(LOST, []) if kept else []
    if lost:
        tries = "in one of two tries, which is one too many: " if config.getoption("lf") else ""
        terminalreporter.line(f"LOST requests or records, {tries}{', '.join(lost)}")
    if config.stash[STARTED]:
        told = ", ".join(f"{seconds:.1f} s" for seconds in config.stash[STARTED])
        terminalreporter.line(f"start of the lab: {told}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A namespace of a test's own, and a second one for the daemon's documents."""

    name: str
    system: str


@dataclass(slots=True, kw_only=True)
class Lab:
    """The cluster of this worker, as one test sees it."""

    cluster: Cluster
    api: Port
    """Raw requests as administrator."""
    folder: Path
    """For what this test writes."""
    stack: contextlib.AsyncExitStack
    trails: list[Trail] = field(default_factory=list)
    """What has to hold when the test has passed, with its daemons still at work."""

    @property
    def traefik(self) -> str:
        """Address of Traefik as `host:port`; its Gateway is `lab/traefik`."""
        return self.cluster.traefik

    @property
    def envoy(self) -> str:
        """Address of Envoy; its Gateway is `lab/envoy`."""
        return self.cluster.envoy

    @property
    def prometheus_url(self) -> str:
        """Prometheus, which scrapes the data planes and all annotated pods each second."""
        return self.cluster.prometheus_url

    def daemon(
        self,
        space: Space,
        *,
        kubeconfig: Path | None = None,
        name: str = "daemon",
        options: tuple[str, ...] = QUICK,
    ) -> Daemon:
        """`switchgear run` for a space; it is started by the test and ended after it.

        It watches the namespace of the space and keeps its documents in the other one.
        """
        folder = self.folder / name
        folder.mkdir()
        daemon = Daemon(
            folder=folder,
            kubeconfig=kubeconfig or self.cluster.kubeconfig,
            prometheus=self.prometheus_url,
            options=(
                *options,
                f"--namespace={space.name}",
                f"--controller-namespace={space.system}",
            ),
        )
        self.stack.push_async_callback(daemon.close)
        return daemon

    async def load(
        self, app: App, *, rate: float = 100.0, direct_rate: float = 30.0, address: str = ""
    ) -> traffic.Traffic:
        """Requests until the test ends, through the data plane that the application's route uses.

        They begin when the route is in force, and it returns when the first answers have come.
        """
        address = address or str(getattr(self.cluster, app.gateway))
        await until(lambda: self._in_force(address, app.host), 60.0, f"a route for {app.host}")
        running = traffic.running(
            app,
            address=address,
            pki=self.cluster.pki,
            log=self.folder / f"load-{next(_serial)}.log",
            rate=rate,
            direct_rate=direct_rate,
        )
        found = await self.stack.enter_async_context(running)
        await found.until_answered(10)
        return found

    async def _in_force(self, address: str, host: str) -> bool:
        async with plain(seconds=5.0) as http:
            answer = await http.get(f"http://{address}/", headers={"Host": host})
        return "x-version" in answer.headers

    async def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an instant query."""
        async with plain() as http:
            answer = await http.get(f"{self.prometheus_url}/api/v1/query", params={"query": promql})
        found = answer.raise_for_status().json()["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]


@pytest.fixture
async def lab(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Lab]:
    """The cluster of this worker; whatever the test starts through it ends with the test."""
    async with (
        real_client(cluster.kubeconfig) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        yield Lab(cluster=cluster, api=OverHttp(client), folder=tmp_path, stack=stack)


@pytest.fixture
async def space(lab: Lab) -> AsyncIterator[Space]:
    """A fresh namespace, and one for the daemon's documents; nothing works in them afterwards."""
    name = f"t{next(_serial)}-{secrets.token_hex(3)}"
    found = Space(name=name, system=f"{name}-system")
    for namespace in (found.name, found.system):
        answer = await lab.api.request(
            "POST",
            "/api/v1/namespaces",
            {},
            {"Content-Type": "application/json"},
            f'{{"metadata": {{"name": "{namespace}"}}}}'.encode(),
        )
        assert answer.status == 201, answer.content

    async def accounts() -> bool:
        """Pods may not be made before the namespace's default service account exists."""
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        return (await lab.api.request("GET", path, {}, {}, b"")).status == 200

    await until(accounts, 20.0, "the default service account")
    try:
        yield found
    finally:
        try:
            # Whatever the test started would write again what is taken away here.
            await lab.stack.aclose()
        finally:
            for namespace in (found.name, found.system):
                # Routes would be in every new configuration of the data planes.
                await emptied(lab.api, namespace, "httproutes", "grpcroutes")
            for namespace in (found.name, found.system):
                await leftovers.gone(lab.api, namespace)


@pytest.fixture
def app(lab: Lab, space: Space) -> Callable[..., App]:
    """Makes applications in the space; they are deployed by their `start`."""

    def make(name: str = "checkout", gateway: str = "traefik") -> App:
        return App(port=lab.api, namespace=space.name, name=name, gateway=gateway)

    return make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(cluster: Cluster) -> AsyncIterator[Installed]:
    """The controller's account and the admission policies, and no controller."""
    async with installed(cluster, "base", "admission") as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unguarded(cluster: Cluster) -> AsyncIterator[Installed]:
    """The controller's account and its rights, without any policy and any controller."""
    async with installed(cluster, "base") as found:
        yield found


@pytest.fixture
def operator(cluster: Cluster) -> Iterator[None]:
    """A cluster with the Prometheus Operator, as far as its API goes."""
    with operated(cluster):
        yield


@pytest.fixture
async def desk(gate: Installed, app: Callable[..., App]) -> Desk:
    """An adopted Deployment in a namespace with two developers."""
    return await adopted(gate, app())
