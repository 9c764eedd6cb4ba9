# SPDX-License-Identifier: Apache-2.0
"""The daemon as one process: caches, engine and doors as named tasks; one dies, all end."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Iterator, Mapping

import structlog
import uvicorn

from controller.adapters.clock import LoopClock
from controller.adapters.kube import transport
from controller.adapters.kube.cache import Cache
from controller.adapters.kube.calls import Calls
from controller.adapters.kube.cluster import KubeCluster
from controller.adapters.kube.documents import KubeDocuments
from controller.adapters.kube.reflector import Settings as ReflectorSettings
from controller.adapters.peer import HttpPeer
from controller.adapters.prometheus import providers
from controller.adapters.prometheus.client import Prometheus
from controller.app.assembly import Engine, assemble
from controller.app.place import leading, placed
from controller.engine.health import Health
from controller.engine.leader import Leader
from controller.engine.observe import Bounds
from controller.http.access import Access
from controller.http.doors import Doors
from controller.http.standby import Standby
from controller.settings import Settings

SYNC_LOOK_SECONDS = 0.02
"""How often the start looks whether the caches are filled."""

log = structlog.get_logger(__name__)


def start_logging(level: str) -> None:
    """JSON lines on stderr, with what is bound to the task."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises Refused if there is no usable configuration."""
    clock = LoopClock()
    connection = await transport.load(
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        mounted=settings.service_account_dir,
    )
    calls = Calls(connection.wire, clock)
    place = placed(settings)
    cluster = KubeCluster(calls, settings.namespaces, Cache(place.only))
    documents = KubeDocuments(calls, place.namespace, place.target)
    choice = providers.choose(settings.providers)
    metrics = Prometheus(settings.prometheus_url, choice, now=clock.wall)
    engine = assemble(
        cluster=cluster,
        documents=documents,
        metrics=metrics,
        clock=clock,
        bounds=bounds_of(settings, choice.settle_seconds),
    )
    health = Health(
        synced=lambda: cluster.synced and documents.synced,
        stale_seconds=lambda: cluster.cache.stale_seconds,
        requests=lambda: connection.wire.sent,
    )
    if settings.token_file is not None and not settings.token_file.exists():
        log.warning("the doors below /v1 let nobody in", missing=str(settings.token_file))
    reflecting = ReflectorSettings(resync=settings.resync_seconds)
    leader = leading(settings, place, calls, engine)
    peer = HttpPeer()
    log.info("starting", server=connection.server, listen=":".join(map(str, settings.listen)))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_until_signal(), name="signals")
            group.create_task(cluster.run(reflecting), name="cluster")
            group.create_task(documents.run(reflecting), name="documents")
            doors = _made(engine, health, settings, leader, peer)
            group.create_task(_doors(doors, settings), name="doors")
            group.create_task(_engine(engine, health, leader), name="engine")
    except* _Stopped:
        log.info("stopped")
    finally:
        await peer.close()
        await metrics.close()
        await connection.wire.aclose()


def bounds_of(settings: Settings, settle_seconds: Mapping[str, float]) -> Bounds:
    """The operator's figures; what takes how long to settle, by provider, where he told nothing."""
    told = settings.settle_seconds
    chosen = max(settle_seconds[name] for name in settings.providers)
    return Bounds(
        settle_seconds=chosen if told is None else told,
        named_settle_seconds=settle_seconds if told is None else {},
        drain_seconds=settings.drain_seconds,
        ready_seconds=settings.ready_seconds,
        roll_seconds=settings.roll_seconds,
        cluster_cap_bp=settings.cluster_cap_bp,
        namespace_caps_bp=dict(settings.namespace_caps_bp),
    )


class _Stopped(Exception):
    """A signal asked us to end; not an error."""


async def _until_signal() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    raise _Stopped


async def _engine(engine: Engine, health: Health, leader: Leader | None) -> None:
    """Nothing is decided before every cache has its first list."""
    while health.problems():
        await engine.clock.sleep(SYNC_LOOK_SECONDS)
    # What was loaded at the start lives as long as the process: no collection need look at it.
    gc.collect()
    gc.freeze()
    if leader is not None:
        await leader.run()
        return
    engine.meters.leads(leading=True)
    await engine.run()


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own; ours end the whole process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the handlers as they are."""
        yield


def _made(
    engine: Engine, health: Health, settings: Settings, leader: Leader | None, peer: HttpPeer
) -> Doors:
    # In a sidecar's namespace others may write the lease, and an address in it would be told the
    # token of whoever calls: there nothing is passed on.
    standby = Standby(
        leader=leader,
        peer=None if settings.target else peer,
        desk=engine.desk,
        records=engine.records,
        cluster=engine.cluster,
    )
    return Doors(
        access=Access(settings.token_file),
        desk=engine.desk,
        killer=engine.killer,
        requests=engine.requests,
        health=health,
        meters=engine.meters,
        latches=engine.documents.latches_seen,
        clock=engine.clock,
        standby=standby,
    )


async def _doors(doors: Doors, settings: Settings) -> None:
    host, port = settings.listen
    config = uvicorn.Config(
        doors.app(),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    server = _Server(config)
    try:
        await server.serve()
    except SystemExit as error:
        message = f"{host}:{port} cannot be listened on"
        raise OSError(message) from error
