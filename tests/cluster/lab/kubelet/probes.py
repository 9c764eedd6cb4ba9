# SPDX-License-Identifier: Apache-2.0
"""Startup, liveness and readiness probes, really made: HTTP or TCP, with period and limits."""

import asyncio
from collections.abc import AsyncIterator

from tests.cluster.lab.api import Object

EAGER_SECONDS = 0.1
"""Before its first success a probe is made this often, whatever its period: pods start quickly.
Liveness is looked at as often as is written: there it is failures that count."""


class Failed(Exception):
    """A container that has not started in time."""


async def follow(container: Object, address: str) -> AsyncIterator[tuple[bool, bool]]:
    """Whether it has started and whether it is ready, each time that this changes.

    Raises Failed where it has not started in time.
    """
    startup, readiness = container.get("startupProbe"), container.get("readinessProbe")
    if startup:
        yield False, False
        await _until_passed(startup, container, address)
    if not readiness:
        yield True, True
        return
    yield True, False
    await asyncio.sleep(readiness.get("initialDelaySeconds", 0))
    ready, met, seen = False, 0, False
    while True:
        passed = await probe(readiness, container, address)
        met = met + 1 if passed is not ready else 0
        needed = _failures(readiness) if ready else _successes(readiness)
        if met >= needed:
            ready, met, seen = not ready, 0, True
            yield True, ready
        period = _period(readiness)
        await asyncio.sleep(period if seen else min(period, EAGER_SECONDS))


def _successes(wanted: Object) -> int:
    return int(wanted.get("successThreshold", 1))


def _failures(wanted: Object) -> int:
    return int(wanted.get("failureThreshold", 3))


def _period(wanted: Object) -> float:
    return float(wanted.get("periodSeconds", 10))


async def _until_passed(wanted: Object, container: Object, address: str) -> None:
    """Failures are not counted, being made eagerly: as many as are allowed take so long."""
    loop = asyncio.get_running_loop()
    patience = wanted.get("initialDelaySeconds", 0) + _failures(wanted) * _period(wanted)
    deadline = loop.time() + patience
    while True:
        if await probe(wanted, container, address):
            return
        if loop.time() > deadline:
            raise Failed
        await asyncio.sleep(EAGER_SECONDS)


async def until_dead(wanted: Object, container: Object, address: str) -> None:
    """Wait for as many failures of a liveness probe, one after another, as are too many."""
    await asyncio.sleep(wanted.get("initialDelaySeconds", 0))
    failed = 0
    while True:
        failed = 0 if await probe(wanted, container, address) else failed + 1
        if failed >= _failures(wanted):
            return
        await asyncio.sleep(_period(wanted))


async def probe(wanted: Object, container: Object, address: str) -> bool:
    """Make one probe; a kind that is not known here passes."""
    try:
        async with asyncio.timeout(wanted.get("timeoutSeconds", 1)):
            if "httpGet" in wanted:
                return await _http(wanted["httpGet"], container, address)
            if "tcpSocket" in wanted:
                port = number(wanted["tcpSocket"]["port"], container)
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
    except (OSError, ValueError, IndexError):
        return False
    return True


def number(port: object, container: Object) -> int:
    """A port by its number or by its name; raises ValueError."""
    for known in container.get("ports", ()):
        if known.get("name") == port:
            return int(known["containerPort"])
    return int(str(port))


async def _http(wanted: Object, container: Object, address: str) -> bool:
    host, port = wanted.get("host", address), number(wanted["port"], container)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        path = wanted.get("path", "/")
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
    finally:
        writer.close()
    return 200 <= int(line.split()[1]) < 400
