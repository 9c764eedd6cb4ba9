# SPDX-License-Identifier: Apache-2.0
"""An application with OpenTelemetry's own instrumentation and exporter, as a process of its own.

It is run as a script, says in one line of JSON at which ports it answers and is scraped, and ends
on SIGTERM. What it counts, and how, is set by its environment, as anywhere.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator

import uvicorn
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

SLOW_SECONDS = 2.6
"""Between two bounds of the histogram, 2.5 and 5 s; no quick answer takes so long by chance."""


async def status(request: Request) -> Response:
    """The status that is asked for."""
    return Response(status_code=int(request.path_params["code"]))


async def slow(_: Request) -> Response:
    """A good answer, but late."""
    await asyncio.sleep(SLOW_SECONDS)
    return Response()


async def crash(_: Request) -> Response:
    """No answer of the application's own."""
    raise RuntimeError("as asked")


async def torn(_: Request) -> Response:
    """A good status, and an answer that breaks off."""

    async def body() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("as asked")

    return StreamingResponse(body())


async def healthz(_: Request) -> Response:
    """For probes."""
    return Response()


def main() -> None:
    """Serve until asked to end."""
    app = Starlette(
        routes=[
            Route("/status/{code}", status),
            *(Route(f"/{one.__name__}", one) for one in (slow, crash, torn, healthz)),
        ]
    )
    meters = MeterProvider(metric_readers=[PrometheusMetricReader()])
    StarletteInstrumentor.instrument_app(app, meter_provider=meters)
    metrics, _ = start_http_server(0, "127.0.0.1")
    # Who connects before the server is up has to wait, and is not refused.
    door = socket.create_server(("127.0.0.1", 0))
    ports = {"answers": door.getsockname()[1], "metrics": metrics.server_port}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[door])


if __name__ == "__main__":
    main()
