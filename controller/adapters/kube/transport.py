# SPDX-License-Identifier: Apache-2.0
"""The wire over HTTP: `kubernetes.aio` brings configuration, credentials and TLS, aiohttp carries.

From the generated client only configuration and the request's assembly are used. Its typed models,
watch and retries stay out: they cost ten times the memory and fail on one odd object.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_TOKEN_FILENAME, InClusterConfigLoader

from controller import __version__
from controller.adapters.kube.wire import Request, Response
from controller.core.errors import Refused, Unavailable

CONNECT_SECONDS: Final = 10.0
"""A connection that takes longer is to a host that is not there."""

CONNECTIONS: Final = 128
"""One per watch (8 resources times the namespaces named) and 32 at most for everything else."""

KEEP_SECONDS: Final = 45.0
"""For an idle connection: evidence is made durable every half minute, and a handshake costs more
than the write. Servers keep them for 90 s, what balances their load mostly for a minute."""

RELOAD_SECONDS: Final = 10.0
"""A refused token is fetched anew at most this often: exec plugins may ask a person."""

USUAL: Final = Path(SERVICE_TOKEN_FILENAME).parent
"""Where a pod finds the service account that the cluster mounts by itself."""

UNUSABLE: Final = (
    ConfigException,
    OSError,
    ValueError,
    # What the loader raises for a file that is YAML and no kubeconfig, or not even that.
    AttributeError,
    LookupError,
    TypeError,
    yaml.YAMLError,
)

Load = Callable[[], Awaitable[Configuration]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A wire, and what the configuration says besides."""

    wire: "HttpWire"
    namespace: str
    """Of the context, or of the pod's service account."""
    server: str


class HttpWire:
    """`wire.Wire` over HTTP/1.1, one pool of connections for the process."""

    def __init__(self, configuration: Configuration, load: Load) -> None:
        """`load` makes the configuration anew when its credentials are refused."""
        self._load = load
        self._client = _client(configuration)
        self._session: aiohttp.ClientSession | None = None
        self._reloaded = float("-inf")
        self._reloading = asyncio.Lock()
        self.sent = 0
        """Requests sent, for the daemon's own metrics."""

    async def send(self, request: Request) -> Response:
        """Send; a 401 is tried once more with fresh credentials, since nothing was done yet."""
        response = await self._send(request)
        if response.status == 401 and await self._reload():
            await response.aclose()
            response = await self._send(request)
        return response

    async def _send(self, request: Request) -> Response:
        self.sent += 1
        try:
            method, url, headers, _, _ = await self._client.param_serialize(
                request.method,
                request.path,
                query_params=list(request.query),
                header_params=dict(request.headers),
                auth_settings=["BearerToken"],
            )
        except (ConfigException, OSError) as error:
            raise Unavailable(f"the credentials cannot be read: {error}") from error
        configuration = self._client.configuration
        more: dict[str, Any] = {}
        if configuration.tls_server_name:
            more["server_hostname"] = configuration.tls_server_name
        if configuration.proxy:
            more["proxy"] = configuration.proxy
        try:
            answer = await self._pool().request(
                method,
                url,
                headers=headers,
                data=request.body or None,
                timeout=_timeout(request.timeout_seconds),
                allow_redirects=False,
                **more,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = f"{request.method} {request.path}"
            raise Unavailable(f"{what}: {type(error).__name__}: {error}") from error
        return Response(
            status=answer.status,
            headers={key.lower(): value for key, value in answer.headers.items()},
            body=_chunks(answer, f"{request.method} {request.path}"),
            aclose=_closer(answer),
        )

    def _pool(self) -> aiohttp.ClientSession:
        """The session, made on first use because it belongs to the running loop."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=CONNECTIONS,
                ssl=self._client.rest_client.ssl_context,
                keepalive_timeout=KEEP_SECONDS,
            )
            # Proxies and credentials come from the kubeconfig, never from the environment.
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session

    async def _reload(self) -> bool:
        """Make the credentials anew, if that was not done just now; whether it was."""
        asked = asyncio.get_running_loop().time()
        async with self._reloading:
            if asked <= self._reloaded:
                return True
            if asked - self._reloaded < RELOAD_SECONDS:
                return False
            with contextlib.suppress(ConfigException, OSError):
                await self._swap(_client(await self._load()))
            self._reloaded = asyncio.get_running_loop().time()
            return True

    async def _swap(self, client: ApiClient) -> None:
        """Only the headers change: open watches keep the session they were opened in."""
        if self._client.configuration.cert_file != client.configuration.cert_file:
            # A renewed client certificate needs a new TLS context, and so a new pool.
            await self._close_session()
        self._client = client

    async def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._close_session()
        await self._client.close()  # type: ignore[no-untyped-call]


def _client(configuration: Configuration) -> ApiClient:
    client = ApiClient(configuration)
    client.user_agent = f"switchgear/{__version__}"
    return client


def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    """Silence within a stream is timed by whoever reads it."""
    return aiohttp.ClientTimeout(
        total=seconds + 5.0,
        connect=CONNECT_SECONDS * 2,
        sock_connect=CONNECT_SECONDS,
        sock_read=min(seconds, 90.0),
    )


async def _chunks(answer: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"{what}: broke off: {type(error).__name__}: {error}") from error


def _closer(answer: aiohttp.ClientResponse) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        """A body that was read to its end gives the connection back; any other one ends it."""
        answer.close()

    return close


async def load(
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    in_cluster: bool | None = None,
    mounted: Path | None = None,
) -> Connection:
    """Connect as told: in the cluster, or by a kubeconfig (default: as kubectl would find it).

    `in_cluster` None means: where a service account's token is mounted and no kubeconfig is named.
    `mounted` is the folder of that account where it is not the usual one, and means the former.
    Raises `Refused` if there is no usable configuration.
    """
    folder = mounted or USUAL
    if mounted is not None and in_cluster is None:
        in_cluster = True
    named = kubeconfig is not None or context is not None
    inside = (not named and (folder / "token").exists()) if in_cluster is None else in_cluster
    namespace = "default"

    async def configure() -> Configuration:
        nonlocal namespace
        configuration = Configuration()
        if inside:
            loader = InClusterConfigLoader(  # type: ignore[no-untyped-call]
                token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt")
            )
            loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
            namespace = _mounted_namespace(folder)
        else:
            loaded = await load_kube_config(  # type: ignore[no-untyped-call]
                kubeconfig, context, configuration, persist_config=False
            )
            namespace = loaded.current_context["context"].get("namespace") or "default"
        return configuration

    try:
        configuration = await configure()
        wire = HttpWire(configuration, configure)
    except UNUSABLE as error:
        raise Refused(
            f"no usable configuration: {' '.join(str(error).split())}",
            advice="Name one with --kubeconfig and --context",
        ) from error
    return Connection(wire=wire, namespace=namespace, server=configuration.host)


def _mounted_namespace(folder: Path) -> str:
    try:
        text = (folder / "namespace").read_text(encoding="utf-8")
    except OSError:
        return "default"
    return text.strip() or "default"
