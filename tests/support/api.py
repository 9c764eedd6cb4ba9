# SPDX-License-Identifier: Apache-2.0
"""Raw requests to an API server, however it is reached.

Three implementations of one small port: the simulated server in process, the same over HTTP, and a
real one from a kubeconfig. Nothing of the product is used, so that a client's kindness cannot hide
what the server does.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import yaml

from controller.sim.apiserver.server import ApiServer
from tests.support.realtime import plain

AGENT = "contract/1.0"
# A watch of these tests lasts at most a few seconds; whatever takes longer hangs.
SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.content)

    @property
    def version(self) -> str:
        """The resourceVersion of the object or list in the body."""
        return str(self.json["metadata"]["resourceVersion"])

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Reason and field of every cause of a refusal."""
        listed = self.json.get("details", {}).get("causes", [])
        return [(cause["reason"], cause.get("field", "")) for cause in listed]


class Port(Protocol):
    """One way to reach an API server."""

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        """Send one request and read the whole answer."""

    def lines(
        self, path: str, query: Mapping[str, str]
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[str]]:
        """Open a watch and hand out its lines."""


class InProcess:
    """The simulated server, called directly."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        sent = {"User-Agent": AGENT, **headers}
        response = await self._api.handle(method, path, list(query.items()), sent, body)
        content = await response.read()
        named = {key.lower(): value for key, value in response.headers.items()}
        return Answer(status=response.status, headers=named, content=content)

    @contextlib.asynccontextmanager
    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[str]]:
        response = await self._api.handle("GET", path, list(query.items()), {"User-Agent": AGENT})
        assert response.status == 200, await response.read()

        async def each() -> AsyncIterator[str]:
            async for chunk in response.body:
                for line in chunk.decode().splitlines():
                    yield line

        yield each()


class OverHttp:
    """A server behind a URL: the simulated one, or a real one."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        response = await self._client.request(
            method,
            path,
            params=dict(query),
            headers={"User-Agent": AGENT, **headers},
            content=body,
        )
        named = {key.lower(): value for key, value in response.headers.items()}
        return Answer(status=response.status_code, headers=named, content=response.content)

    @contextlib.asynccontextmanager
    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[str]]:
        own = {"User-Agent": AGENT}
        # Between two events there may be any time.
        timeout = httpx.Timeout(30.0, read=None)
        async with self._client.stream(
            "GET", path, params=dict(query), headers=own, timeout=timeout
        ) as response:
            assert response.status_code == 200, await response.aread()
            yield response.aiter_lines()


def real_client(kubeconfig: Path) -> httpx.AsyncClient:
    """Return a client for the current context of a kubeconfig (certificates or a token)."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    wanted = next(c for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = _named(config["clusters"], wanted["context"]["cluster"])["cluster"]
    user = _named(config["users"], wanted["context"]["user"])["user"]
    context = ssl.create_default_context(cadata=_text(cluster, "certificate-authority"))
    certificate, key = _text(user, "client-certificate"), _text(user, "client-key")
    if certificate and key:
        with tempfile.TemporaryDirectory() as folder:
            pair = (Path(folder, "cert.pem"), Path(folder, "key.pem"))
            for file, text in zip(pair, (certificate, key), strict=True):
                file.write_text(text, encoding="utf-8")
            context.load_cert_chain(str(pair[0]), str(pair[1]))
    client = plain(cluster["server"], SECONDS, verify=context)
    if "token" in user:
        client.headers["Authorization"] = f"Bearer {user['token']}"
    return client


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def _text(entry: Mapping[str, str], name: str) -> str | None:
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"]).decode()
    return Path(entry[name]).read_text(encoding="utf-8") if name in entry else None
