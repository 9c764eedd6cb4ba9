# SPDX-License-Identifier: Apache-2.0
"""The metrics APIs that autoscalers ask: `python -m tests.cluster.lab.measures PKI`.

An aggregated API server as metrics-server and an adapter for Prometheus would be, whose numbers
come from Prometheus: CPU and memory that pods claim by themselves (by their requests, so that they
rise and fall with the load), and requests per second as the gateway counts them: of a Service, or
as a metric from outside of the cluster, of an application.
"""

import asyncio
import os
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.cluster.lab.addresses import MEASURES_PORT, PROMETHEUS
from tests.cluster.lab.api import Api, Object

WINDOW: Final = "8s"
"""Long enough for a rate at one scrape a second, short enough for a test to see a change."""

QUERY_SECONDS = 5.0

_QUANTITIES: Final = {
    "cpu": 'rate(app_cpu_seconds_total{{namespace="{namespace}"}}[{window}])',
    "memory": 'app_memory_bytes{{namespace="{namespace}"}}',
}
_SERVICE: Final = (
    'sum(rate(traefik_service_requests_total{{service=~".*svc-{namespace}-{name}-[0-9]+@.*"}}'
    "[{window}]))"
)

_EXTERNAL: Final = {"load_of_both": "{service}(-canary)?", "load_of_one": "{service}"}
"""What each External metric counts, of the Service that its selector names."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Measures:
    """All doors."""

    def __init__(self, http: httpx.AsyncClient, api: Api) -> None:
        """`http` reaches Prometheus, `api` the API server."""
        self._http = http
        self._api = api

    async def pods(self, request: Request) -> Response:
        """Use of the pods of a namespace that a selector chooses."""
        namespace = request.path_params["namespace"]
        selector = request.query_params.get("labelSelector", "")
        path = f"/api/v1/namespaces/{namespace}/pods"
        listed = (await self._api.call("GET", path, labelSelector=selector)).body["items"]
        chosen = {pod["metadata"]["name"] for pod in listed}
        found: dict[str, dict[str, str]] = {}
        for name, query in _QUANTITIES.items():
            text = query.format(namespace=namespace, window=WINDOW)
            for labels, value in await self._query(text):
                if labels["pod"] in chosen:
                    found.setdefault(labels["pod"], {})[name] = _quantity(name, value)
        items = [
            {
                "metadata": {"name": pod, "namespace": namespace, "creationTimestamp": _now()},
                "timestamp": _now(),
                "window": WINDOW,
                "containers": [{"name": "app", "usage": usage}],
            }
            for pod, usage in sorted(found.items())
            if usage.keys() == _QUANTITIES.keys()
        ]
        return JSONResponse(
            {"kind": "PodMetricsList", "apiVersion": METRICS, "metadata": {}, "items": items}
        )

    async def service(self, request: Request) -> Response:
        """Requests per second of one Service through Traefik, whatever the metric is called."""
        where = {key: request.path_params[key] for key in ("namespace", "name")}
        head = {"kind": "MetricValueList", "apiVersion": CUSTOM}
        described = {"kind": "Service", "apiVersion": "v1", **where}
        named = {"metric": {"name": request.path_params["metric"]}}
        return await self._load(where, head, {"describedObject": described, **named})

    async def external(self, request: Request) -> Response:
        """Requests per second of an application, of one of its versions or of both."""
        namespace, metric = (request.path_params[key] for key in ("namespace", "metric"))
        _, _, service = request.query_params.get("labelSelector", "").partition("service=")
        if metric not in _EXTERNAL or not service:
            return JSONResponse(_status(404, "no such metric"), status_code=404)
        where = {"namespace": namespace, "name": _EXTERNAL[metric].format(service=service)}
        head = {"kind": "ExternalMetricValueList", "apiVersion": EXTERNAL}
        return await self._load(where, head, {"metricName": metric, "metricLabels": {}})

    async def _load(self, where: dict[str, str], head: Object, about: Object) -> Response:
        """A list of the one value that the gateway's counters have."""
        found = await self._query(_SERVICE.format(**where, window=WINDOW))
        if not found:
            return JSONResponse(_status(404, "no such series"), status_code=404)
        item = {**about, "timestamp": _now(), "value": f"{round(found[0][1] * 1000)}m"}
        return JSONResponse({**head, "metadata": {}, "items": [item]})

    async def _query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        answer = await self._http.get("/api/v1/query", params={"query": promql})
        series = answer.raise_for_status().json()["data"]["result"]
        return [(found["metric"], float(found["value"][1])) for found in series]


METRICS: Final = "metrics.k8s.io/v1beta1"
CUSTOM: Final = "custom.metrics.k8s.io/v1beta2"
EXTERNAL: Final = "external.metrics.k8s.io/v1beta1"

_RESOURCES: Final = {
    METRICS: [{"name": "pods", "kind": "PodMetrics", "verbs": ["get", "list"]}],
    CUSTOM: [{"name": "services/requests_per_second", "kind": "MetricValueList", "verbs": ["get"]}],
    EXTERNAL: [
        {"name": metric, "kind": "ExternalMetricValueList", "verbs": ["get"]}
        for metric in _EXTERNAL
    ],
}


def _quantity(name: str, value: float) -> str:
    return f"{round(value * 1e9)}n" if name == "cpu" else str(round(value))


def _status(code: int, message: str) -> Object:
    head = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return {**head, "code": code, "message": message}


def _listed(version: str) -> Object:
    resources = [
        {"singularName": "", "namespaced": True, **resource} for resource in _RESOURCES[version]
    ]
    head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version}
    return {**head, "resources": resources}


def app(measures: Measures) -> Starlette:
    """All paths."""

    def answers(content: Object) -> Any:
        async def endpoint(_: Request) -> Response:
            return JSONResponse(content)

        return endpoint

    spaced = "namespaces/{namespace}"
    return Starlette(
        routes=[
            *(Route(f"/apis/{version}", answers(_listed(version))) for version in _RESOURCES),
            Route(f"/apis/{METRICS}/{spaced}/pods", measures.pods),
            Route(f"/apis/{CUSTOM}/{spaced}/services/{{name}}/{{metric}}", measures.service),
            Route(f"/apis/{EXTERNAL}/{spaced}/{{metric}}", measures.external),
        ]
    )


async def main(pki: Path) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(0, 64) or os._exit(0))
    api = Api(pki)
    async with httpx.AsyncClient(
        base_url=f"http://{PROMETHEUS}", timeout=QUERY_SECONDS, trust_env=False
    ) as http:
        config = uvicorn.Config(
            app(Measures(http, api)),
            host="0.0.0.0",
            port=MEASURES_PORT,
            log_level="warning",
            lifespan="off",
            ssl_certfile=pki / "apiserver.crt",
            ssl_keyfile=pki / "apiserver.key",
            ssl_ca_certs=str(pki / "ca.crt"),
            # Only the API server, which has checked who asks, may ask us.
            ssl_cert_reqs=ssl.CERT_REQUIRED,
        )
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
