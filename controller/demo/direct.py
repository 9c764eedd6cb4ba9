# SPDX-License-Identifier: Apache-2.0
"""The client that goes past the gateway, as others in a cluster do.

It is what a promotion by shift must not hurt: it follows the Service, with endpoints that are up to
a second old, and opens a connection for each call.
"""

import asyncio
import json
import random
import ssl
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controller.demo.answer import REQUEST_SECONDS, count, fetch, parse
from controller.demo.counts import Slot

ENDPOINT_AGE = 1.0
"""Endpoints are read this often, as a kube-proxy a little behind would."""


@dataclass(slots=True, kw_only=True)
class Direct:
    """A client that knows the Service's endpoints and calls them itself, one connection each."""

    api: str
    """Base URL of the API server."""
    namespace: str
    service: str
    rate: float
    slow_seconds: float
    slot: Callable[[], Slot]
    """The slot that counts now."""
    tls: ssl.SSLContext | None = None
    """How an API server that is reached by https is trusted, and told who asks."""
    endpoints: list[tuple[str, int]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Call until cancelled; calls begin with the first endpoints."""
        watcher = asyncio.ensure_future(self._follow())
        try:
            while True:
                await asyncio.sleep(1 / self.rate)
                if self.endpoints and len(self._tasks) < self.rate * REQUEST_SECONDS:
                    task = asyncio.ensure_future(self._call(*self._any()))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            watcher.cancel()

    async def _follow(self) -> None:
        selector = urllib.parse.quote(f"kubernetes.io/service-name={self.service}")
        url = urllib.parse.urlsplit(self.api)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        while True:
            try:
                body = await fetch(
                    url.hostname or "",
                    url.port or 80,
                    f"{path}?labelSelector={selector}",
                    tls=self.tls,
                )
                self.endpoints = addresses(json.loads(body))
            except (OSError, ValueError, KeyError):
                pass  # Old endpoints are what a client has while the API server is away.
            await asyncio.sleep(ENDPOINT_AGE)

    def _any(self) -> tuple[str, int]:
        return random.choice(self.endpoints)  # noqa: S311 - spreads load, hides no secret

    async def _call(self, host: str, port: int) -> None:
        started = time.monotonic()
        try:
            answer = parse(await fetch(host, port, "/", whole=True))
        except TimeoutError:
            what = "timeout"
        except ConnectionRefusedError:
            what = "refused"
        except (OSError, ValueError, IndexError):
            what = "reset"
        else:
            if answer is not None and answer.version:
                slow = time.monotonic() - started > self.slow_seconds
                count(self.slot().direct, answer, slow=slow)
                return
            what = "closed"
        found = self.slot().direct_failures
        found[what] = found.get(what, 0) + 1


def addresses(slices: dict[str, Any]) -> list[tuple[str, int]]:
    """Ready addresses with their ports out of a list of EndpointSlices; raises KeyError."""
    return [
        (host, port["port"])
        for item in slices["items"]
        for endpoint in item.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for port in item.get("ports") or ()
        for host in endpoint["addresses"]
    ]
