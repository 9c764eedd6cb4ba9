# SPDX-License-Identifier: Apache-2.0
"""How each real part is started, and how one knows that it is ready.

Ports are chosen by asking the kernel for a free one. Somebody may take it before the part does, so
a part that ends for that reason is started again with another one.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from controller.demo import manifests
from controller.demo.errors import DemoError
from controller.demo.ground import Ground
from controller.demo.process import Child, free_port

READY_SECONDS = 20.0
"""Each part is ready within two on an idle machine."""

PROBE_SECONDS = 1.0
PORT_ATTEMPTS = 3
SCRAPE_SECONDS = 1

DATA = "tsdb"
"""Folder of Prometheus' data below the stage's."""

_TAKEN = "address already in use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process and where it is reached."""

    child: Child
    url: str


async def _on_free_ports(
    count: int, start: Callable[[Sequence[int]], Awaitable[Part]]
) -> tuple[Part, Sequence[int]]:
    """Start a part on so many free ports; raises DemoError when it does not come up."""
    for attempt in range(1, PORT_ATTEMPTS + 1):
        ports = tuple(free_port() for _ in range(count))
        try:
            return await start(ports), ports
        except DemoError as error:
            if _TAKEN not in str(error).lower() or attempt == PORT_ATTEMPTS:
                raise
    raise DemoError("no free port")  # For the type checker: the loop returns or raises.


async def _ready(child: Child, url: str) -> None:
    """Wait until `url` answers with 200; a child that does not get there is stopped."""
    async with httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False) as http:

        async def probe() -> bool:
            try:
                return (await http.get(url)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

        try:
            await child.until(probe, READY_SECONDS)
        except BaseException:
            await child.stop()
            raise


async def cluster(logs: Path) -> Part:
    """The simulated API server with its controllers and pods."""
    command = (sys.executable, "-m", "controller.demo.cluster", "--logs", logs)
    child = await Child.start(
        "cluster", command, log=logs / "cluster.log", stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(READY_SECONDS):
            line = await anext(child.lines(), b"")
        return Part(child=child, url=json.loads(line)["url"])
    except (TimeoutError, ValueError) as error:
        await child.stop()
        raise DemoError(f"the simulated cluster did not start:\n{child.tail()}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Traefik: where clients reach it, and where it tells its metrics."""

    child: Child
    address: str
    port: int
    metrics: str


async def traefik(program: Path, api: str, logs: Path) -> Edge:
    """Traefik as Gateway API implementation, following the API server at `api`."""

    async def start(ports: Sequence[int]) -> Part:
        web, metrics = (f"127.0.0.1:{port}" for port in ports)
        child = await Child.start(
            "traefik",
            (
                program,
                "--global.checknewversion=false",
                "--global.sendanonymoususage=false",
                "--log.level=WARN",
                f"--entrypoints.web.address={web}",
                f"--entrypoints.metrics.address={metrics}",
                "--ping=true",
                "--ping.entrypoint=metrics",
                "--metrics.prometheus=true",
                "--metrics.prometheus.entrypoint=metrics",
                "--metrics.prometheus.addserviceslabels=true",
                "--providers.kubernetesgateway=true",
                f"--providers.kubernetesgateway.endpoint={api}",
                # Any token will do: without one it looks for a service account's.
                "--providers.kubernetesgateway.token=demo",
                # Its default as well. What stays is the throttle over all providers, two seconds
                # between reloads, as in any Traefik: the daemon has to live with that lag.
                "--providers.kubernetesgateway.throttleduration=0s",
            ),
            log=logs / "traefik.log",
        )
        await _ready(child, f"http://{metrics}/ping")
        return Part(child=child, url=f"http://{web}")

    part, (web, metrics) = await _on_free_ports(2, start)
    return Edge(
        child=part.child, address=f"127.0.0.1:{web}", port=web, metrics=f"127.0.0.1:{metrics}"
    )


async def prometheus(
    program: Path, targets: Mapping[str, Mapping[str, str]], folder: Path, *options: str
) -> Part:
    """Prometheus, scraping `targets` every second; its data goes into `folder`.

    Args:
        program: To be run.
        targets: Where metrics are told, `host:port`, and what labels each series from there gets.
        folder: For configuration, log and data.
        options: Of the program, besides those that it always gets.
    """
    every = f"{SCRAPE_SECONDS}s"
    groups = [{"targets": [one], "labels": dict(labels)} for one, labels in targets.items()]
    settings = {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "scrape_configs": [{"job_name": "demo", "static_configs": groups}],
    }
    config = folder / "prometheus.yml"
    # All JSON is YAML.
    config.write_text(json.dumps(settings), encoding="utf-8")

    async def start(ports: Sequence[int]) -> Part:
        child = await Child.start(
            "prometheus",
            (
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / DATA}",
                f"--web.listen-address=127.0.0.1:{ports[0]}",
                "--log.level=warn",
                *options,
            ),
            log=folder / "prometheus.log",
        )
        url = f"http://127.0.0.1:{ports[0]}"
        await _ready(child, f"{url}/-/ready")
        return Part(child=child, url=url)

    return (await _on_free_ports(1, start))[0]


async def daemon(ground: Ground, logs: Path) -> Part:
    """The product: `switchgear run`, as anybody would start it."""

    async def start(ports: Sequence[int]) -> Part:
        listen = f"127.0.0.1:{ports[0]}"
        child = await Child.start(
            "daemon",
            (
                *(sys.executable, "-m", "controller", "run"),
                *ground.daemon,
                *("--prometheus", ground.prometheus),
                *("--provider", ground.signals.provider),
                *("--listen", listen),
                *("--namespace", ground.team.namespace),
                *("--controller-namespace", ground.system),
            ),
            log=logs / "daemon.log",
        )
        await _ready(child, f"http://{listen}/readyz")
        return Part(child=child, url=f"http://{listen}")

    return (await _on_free_ports(1, start))[0]


async def load(ground: Ground, rate: float, logs: Path) -> Child:
    """The clients; their counts come line by line from `lines()`."""
    past = (
        *("--api", ground.api.url),
        *("--namespace", ground.team.namespace),
        *("--service", manifests.APP),
    )
    return await Child.start(
        "load",
        (
            *(sys.executable, "-m", "controller.demo.load"),
            *("--gateway", ground.address),
            *("--name", ground.team.host),
            *("--rate", str(rate)),
            *("--slow-ms", str(ground.signals.slow_seconds * 1000)),
            *(past if ground.pods_reachable else ()),
        ),
        log=logs / "load.log",
        stdout=asyncio.subprocess.PIPE,
    )
