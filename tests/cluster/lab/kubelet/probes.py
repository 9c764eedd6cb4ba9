# SPDX-License-Identifier: Apache-2.0
"""Startup and readiness probes, really made: HTTP or TCP, with period, limits and deadlines."""

import asyncio
from collections.abc import AsyncIterator

from tests.cluster.lab.api import Object

EAGER_SECONDS = 0.1
"""Before its first success a probe is made this often, whatever its period: pods start quickly."""


async def follow(container: Object, address: str) -> AsyncIterator[tuple[bool, bool]]:
    """Whether it has started and whether it is ready, each time that this changes."""
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
        needed = readiness.get("failureThreshold", 3) if ready else _successes(readiness)
        if met >= needed:
            ready, met, seen = not ready, 0, True
            yield True, ready
        period = float(readiness.get("periodSeconds", 10))
        await asyncio.sleep(period if seen else min(period, EAGER_SECONDS))


def _successes(wanted: Object) -> int:
    return int(wanted.get("successThreshold", 1))


async def _until_passed(wanted: Object, container: Object, address: str) -> None:
    while True:
        if await probe(wanted, container, address):
            return
        await asyncio.sleep(EAGER_SECONDS)


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
