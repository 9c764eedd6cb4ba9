# SPDX-License-Identifier: Apache-2.0
"""The application that is deployed in tests: its manifests, and a team's look at them."""

import asyncio
import copy
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.lab.manifests import GATEWAY_GROUP, SYSTEM
from tests.support.api import Answer, Port
from tests.support.dialects import STRATEGIC

Object = dict[str, Any]

PREFIX: Final = "switchgear.dev/"
PORT: Final = 8080

UNHURRIED: Final = {"READY_SECONDS": "2"}
"""Environment of a version whose pods take their time to start, for tests in which no policy holds
a change but the daemon, which sees it. A pod that is ready within the third of a second for which a
busy machine may keep that waiting is taken from its clients again, and a stable one may go for it:
requests to either are lost until the gateway knows."""

PATHS: Final = {
    "deployments": "apis/apps/v1",
    "replicasets": "apis/apps/v1",
    "statefulsets": "apis/apps/v1",
    "daemonsets": "apis/apps/v1",
    "replicationcontrollers": "api/v1",
    "services": "api/v1",
    "pods": "api/v1",
    "configmaps": "api/v1",
    "endpointslices": "apis/discovery.k8s.io/v1",
    "httproutes": f"apis/{GATEWAY_GROUP}/v1",
    "grpcroutes": f"apis/{GATEWAY_GROUP}/v1",
    "jobs": "apis/batch/v1",
    "horizontalpodautoscalers": "apis/autoscaling/v2",
    "poddisruptionbudgets": "apis/policy/v1",
    "leases": "apis/coordination.k8s.io/v1",
    "events": "api/v1",
}


def container(version: str, env: Mapping[str, str]) -> Object:
    """The application's container at one version."""
    return {
        "name": "app",
        "image": f"registry.example/app:{version}",
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
    }


def deployment(
    name: str,
    *,
    version: str = "v1",
    replicas: int = 4,
    env: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> Object:
    """A team's Deployment; `annotations` without their prefix, `spec` as it is written."""
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
    template = {
        "metadata": {"labels": {"app": name}, "annotations": scraped},
        "spec": {
            "containers": [container(version, env or {})],
            "terminationGracePeriodSeconds": 10,
        },
    }
    given = {PREFIX + key: value for key, value in (annotations or {}).items()}
    if PREFIX + "bake" in given:
        # These pods are as quick from the first answer on.
        given.setdefault(PREFIX + "warm-up", "2s")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "annotations": given},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
            **spec,
        },
    }


def service(name: str) -> Object:
    """The Service, which selects the pods by the team's own label alone."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]},
    }


def route(name: str, host: str, gateway: str = "traefik") -> Object:
    """Everything that comes in for `host` goes to the Service."""
    return {
        "apiVersion": f"{GATEWAY_GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {
            "hostnames": [host],
            "parentRefs": [{"name": gateway, "namespace": SYSTEM}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": name, "port": 80}],
                }
            ],
        },
    }


def new_version(version: str, env: Mapping[str, str] | None = None) -> Object:
    """The strategic merge patch by which a pipeline deploys `version` with this environment."""
    changed = container(version, env or {})
    changed["env"].append({"$patch": "replace"})
    return {"spec": {"template": {"spec": {"containers": [changed]}}}}


def of_git(found: Object) -> Object:
    """An object without what the API server and its controllers add of their own."""
    left = copy.deepcopy(found)
    left.pop("status", None)
    for key in ("managedFields", "resourceVersion", "generation"):
        left["metadata"].pop(key, None)
    annotations = left["metadata"].get("annotations") or {}
    annotations.pop("deployment.kubernetes.io/revision", None)
    return left


@dataclass(slots=True, kw_only=True)
class App:
    """One application in a namespace: a Deployment, a Service and a route of the same name."""

    port: Port
    namespace: str
    name: str = "checkout"
    gateway: str = "traefik"

    @property
    def host(self) -> str:
        """The name under which clients reach it through a data plane."""
        return f"{self.name}.{self.namespace}.example"

    async def send(
        self, method: str, path: str, body: Any = None, mime: str = "application/json"
    ) -> Answer:
        """Any request as administrator."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", **({"Content-Type": mime} if content else {})}
        return await self.port.request(method, path, {}, headers, content)

    def path(self, plural: str, name: str = "") -> str:
        """The path of a collection in the namespace, or of one object."""
        return f"/{PATHS[plural]}/namespaces/{self.namespace}/{plural}{f'/{name}' if name else ''}"

    async def create(self, plural: str, obj: Object) -> Object:
        """Create an object that must be accepted."""
        answer = await self.send("POST", self.path(plural), obj)
        assert answer.status == 201, answer.content
        return dict(answer.json)

    async def read(self, plural: str, name: str = "") -> Object:
        """An object that must be there; by default the one of the application's name."""
        answer = await self.send("GET", self.path(plural, name or self.name))
        assert answer.status == 200, answer.content
        return dict(answer.json)

    async def every(self, plural: str) -> list[Object]:
        """All objects of a kind in the namespace."""
        answer = await self.send("GET", self.path(plural))
        assert answer.status == 200, answer.content
        return list(answer.json["items"])

    async def patch(
        self, plural: str, body: Any, *, name: str = "", mime: str = STRATEGIC
    ) -> Answer:
        """Patch an object, by default strategically."""
        return await self.send("PATCH", self.path(plural, name or self.name), body, mime)

    async def start(self, **about: Any) -> None:
        """Create everything and wait until all pods are ready; `about` as for `deployment`."""
        await self.create("deployments", deployment(self.name, **about))
        await self.create("services", service(self.name))
        await self.create("httproutes", route(self.name, self.host, self.gateway))
        await self.complete()

    async def deploy(self, version: str, env: Mapping[str, str] | None = None) -> None:
        """Do what a pipeline does with a new version."""
        answer = await self.patch("deployments", new_version(version, env))
        assert answer.status == 200, answer.content

    async def complete(self, within: float = 60.0) -> None:
        """Wait until the Deployment has rolled and every pod is available."""

        async def done() -> bool:
            found = await self.read("deployments")
            wanted, status = found["spec"]["replicas"], found.get("status", {})
            counts = [
                status.get(n, 0) for n in ("replicas", "updatedReplicas", "availableReplicas")
            ]
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return seen and counts == [wanted] * 3

        await until(done, within, f"{self.namespace}/{self.name} is complete")

    async def annotation(self, name: str) -> str | None:
        """One of the controller's annotations on the Deployment."""
        found = (await self.read("deployments"))["metadata"].get("annotations") or {}
        return found.get(PREFIX + name)

    async def adopted(self, log: str | Callable[[], str] = "", within: float = 90.0) -> None:
        """Wait until a controller has marked the Deployment as one that it watches."""

        async def managed() -> bool:
            return await self.annotation("managed") is not None

        await until(managed, within, log)

    async def weights(self) -> dict[str, int]:
        """The weight of each backend in the route's first rule."""
        rule = (await self.read("httproutes"))["spec"]["rules"][0]
        return {backend["name"]: backend.get("weight", 1) for backend in rule["backendRefs"]}

    async def pods(self) -> list[Object]:
        """The pods of the namespace that are not being deleted."""
        found = await self.every("pods")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def ready(self) -> Counter[str]:
        """How many pods of each version are ready."""
        return Counter(version_of(pod) for pod in await self.pods() if is_ready(pod))

    async def of_git(self) -> dict[str, Object]:
        """The team's objects as git would have them."""
        kinds = ("deployments", "services", "httproutes")
        return {kind: of_git(await self.read(kind)) for kind in kinds}


def is_ready(pod: Object) -> bool:
    """Whether the pod's condition says so."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def version_of(pod: Object) -> str:
    """The tag of its first container's image."""
    return str(pod["spec"]["containers"][0]["image"].rpartition(":")[2])


async def until(
    look: Callable[[], Awaitable[bool]],
    within: float,
    what: str | Callable[[], str] = "",
    every: float = 0.2,
) -> None:
    """Look again and again until it is so; fails after `within` seconds.

    What was waited for is a text, or a function that is asked when it did not come.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not await look():
        if loop.time() > deadline:
            told = what() if callable(what) else what
            raise AssertionError(f"not so within {within:g} s: {told or look}")
        await asyncio.sleep(every)
