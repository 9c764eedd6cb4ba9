# SPDX-License-Identifier: Apache-2.0
"""The ground of a real cluster: one namespace per story, which the demo makes and removes.

Nothing outside that namespace is written. Its name is drawn by lot, so that no two demos meet, and
Prometheus has no samples of it from before.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import httpx

from controller.demo import gateways, manifests, measure
from controller.demo.access import Access
from controller.demo.api import Api, Object
from controller.demo.errors import DemoError
from controller.demo.gateways import Door
from controller.demo.ground import Ground, Patience
from controller.demo.manifests import Team

NAME: Final = "switchgear-demo-"
MANAGED: Final = ("app.kubernetes.io/managed-by", "switchgear-demo")
INSTANCE: Final = "app.kubernetes.io/instance"
"""Labels of the namespace; the second says which demo made it, and only that one removes it."""

REACH_SECONDS: Final = 5.0
GONE_SECONDS: Final = 120.0
"""A namespace goes when its pods have gone, each of which may take its ten seconds of grace."""

POLL_SECONDS: Final = 0.5

PATIENCE: Final = Patience(
    # Nodes pull the image first.
    serving=180.0,
    # Prometheus scrapes every 30 s by default in many clusters, and two samples are needed.
    metrics=120.0,
    story=150.0,
    # Three steps and a bake, each judged on some four scrapes.
    per_scrape=16.0,
)

NEEDED: Final = (
    ("create", "", "namespaces"),
    ("delete", "", "namespaces"),
    ("create", "", "services"),
    ("patch", "", "services"),
    ("create", "", "configmaps"),
    ("create", "apps", "deployments"),
    ("patch", "apps", "deployments"),
    ("delete", "apps", "deployments"),
    ("create", "gateway.networking.k8s.io", "httproutes"),
    ("patch", "gateway.networking.k8s.io", "httproutes"),
)
"""What a story does first of all; whoever may do this may usually do the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user told of their cluster; None where the demo is to find out."""

    access: Access
    gateway: str | None = None
    """`NAMESPACE/NAME`."""
    address: str | None = None
    """Where the gateway is reached, `host:port`."""
    prometheus: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A cluster that has all that is needed."""

    access: Access
    context: str
    server: str
    door: Door
    address: str
    prometheus: str
    prometheus_ahead: float
    image: str
    others: tuple[str, ...] = ()
    """Namespaces of other demos, which run or were killed."""

    def title(self) -> str:
        """Which cluster this is, and what will be done there."""
        text = (
            f"using context {self.context} ({self.server}): Gateway {self.door.namespace}/"
            f"{self.door.gateway} at {self.address}, Prometheus {self.prometheus}\n"
            f"each story makes a namespace {NAME}... for itself and removes it at its end"
        )
        if self.others:
            text += (
                f"\nother demos run there, or were killed: {', '.join(self.others)} "
                "(kubectl delete namespace NAME removes one)"
            )
        return text


async def survey(wanted: Wanted) -> Site:
    """Look at everything; raises DemoError with all that is missing at once."""
    problems: list[str] = []
    ahead = await _clock(wanted.prometheus, problems)
    if not wanted.image:
        problems.append(
            "--image NAME: an image of Switchgear that the cluster's nodes can pull; the pods of "
            "the demo run out of it (docker build -t REGISTRY/switchgear . and docker push)"
        )
    context, door, address, server = "", None, "", ""
    others: tuple[str, ...] = ()
    try:
        context = wanted.access.current()
        api = await wanted.access.connect()
    except DemoError as error:
        problems.append(str(error))
    else:
        server = api.url
        try:
            door = await _door(api, wanted.gateway, problems)
            problems += await _forbidden(api)
            others = await _others(api)
        finally:
            await api.close()
        address = wanted.address or (door.address if door else "")
        if door:
            problems += await _unreachable(address)
    if problems or door is None:
        missing = "\n".join(f"- {text}" for text in problems)
        raise DemoError(f"the demo cannot use this cluster ({context or 'none'}):\n{missing}")
    return Site(
        access=wanted.access,
        context=context,
        server=server,
        door=door,
        address=address,
        prometheus=str(wanted.prometheus),
        prometheus_ahead=ahead,
        image=str(wanted.image),
        others=others,
    )


async def _clock(prometheus: str | None, problems: list[str]) -> float:
    if not prometheus:
        problems.append(
            "--prometheus URL: a Prometheus that scrapes the gateway, as it is reached from here "
            "(kubectl port-forward will do)"
        )
        return 0.0
    try:
        return await measure.clock_ahead(prometheus)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError) as error:
        problems.append(f"--prometheus {prometheus} does not answer queries: {error!r}")
        return 0.0


async def _door(api: Api, named: str | None, problems: list[str]) -> Door | None:
    try:
        found = await api.list("Gateway"), await api.list("GatewayClass")
        return gateways.choose(named, *found)
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            problems.append("the cluster has no Gateway API (gateway.networking.k8s.io/v1)")
        else:
            problems.append(f"Gateways cannot be read: {error}")
    except httpx.HTTPError as error:
        problems.append(f"the API server {api.url} does not answer: {error!r}")
    except DemoError as error:
        problems.append(str(error))
    return None


async def _forbidden(api: Api) -> list[str]:
    try:
        allowed = await asyncio.gather(*(api.may(*action) for action in NEEDED))
    except httpx.HTTPError:
        return []  # Said already, or it will be told when the first thing is done.
    missing = [
        f"{verb} {resource}"
        for (verb, _, resource), may in zip(NEEDED, allowed, strict=True)
        if not may
    ]
    return [f"your user may not {', '.join(missing)} in all namespaces"] if missing else []


async def _others(api: Api) -> tuple[str, ...]:
    try:
        found = await api.list("Namespace", label="=".join(MANAGED))
    except httpx.HTTPError:
        return ()  # Whoever may not list namespaces is not told.
    return tuple(item["metadata"]["name"] for item in found)


async def _unreachable(address: str) -> list[str]:
    if not address:
        return ["--gateway-address HOST:PORT: the Gateway's status has no address"]
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return [f"--gateway-address {address} is not HOST:PORT"]
    try:
        async with asyncio.timeout(REACH_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
    except ConnectionRefusedError:
        return []  # A listener may be opened with its first route only, as Contour does it.
    except OSError as error:  # TimeoutError is one.
        return [f"no gateway at {address} ({error!r}); name its address with --gateway-address"]
    return []


@contextlib.asynccontextmanager
async def ground(site: Site, say: Callable[[str], None]) -> AsyncIterator[Ground]:
    """A namespace of a story's own; raises DemoError if it cannot be removed in the end."""
    name, token = f"{NAME}{secrets.token_hex(4)}", secrets.token_hex(8)
    api = await site.access.connect()
    try:
        # A creation that is interrupted may have been done, so that the end looks for it anyway.
        await api.create(manifests.namespace(name, dict([MANAGED, (INSTANCE, token)])))
        yield Ground(
            api=api,
            team=Team(
                namespace=name,
                image=site.image,
                gateway=site.door.parent,
                host=site.door.host(name),
            ),
            address=site.address,
            prometheus=site.prometheus,
            daemon=site.access.options(),
            # With the documents in the same namespace nothing at all is left.
            system=name,
            signals=site.door.signals,
            prometheus_ahead=site.prometheus_ahead,
            pods_reachable=False,
            patience=PATIENCE,
            why=partial(_why, api, name),
        )
    except BaseException:
        left = await _remove(api, name, token)
        if left:
            say(f"(!) {left}")
        raise
    else:
        left = await _remove(api, name, token)
        if left:
            raise DemoError(left)
    finally:
        await api.close()


async def _remove(api: Api, name: str, token: str) -> str:
    """Remove the namespace and wait until it is gone; returns what to do where that fails.

    A namespace of this name that somebody else made is left alone.
    """
    advice = f"; remove it yourself: kubectl delete namespace {name}"
    try:
        try:
            found = await api.get("Namespace", None, name)
            if (found["metadata"].get("labels") or {}).get(INSTANCE) != token:
                return ""
            await api.delete("Namespace", name, found["metadata"]["uid"])
            async with asyncio.timeout(GONE_SECONDS):
                while True:
                    await asyncio.sleep(POLL_SECONDS)
                    await api.get("Namespace", None, name)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return ""
            raise
    except TimeoutError:
        return (
            f"the namespace {name} is being deleted and has not gone after {GONE_SECONDS:g} s; "
            f"see kubectl get namespace {name} -o yaml"
        )
    except httpx.HTTPError as error:
        return f"the namespace {name} is left: {error!r}{advice}"


async def _why(api: Api, namespace: str) -> str:
    """What stands in the way of an application that does not answer, a line each."""
    try:
        pods = await api.list("Pod", namespace)
        deployments = await api.list("Deployment", namespace)
        routes = await api.list("HTTPRoute", namespace)
    except httpx.HTTPError as error:
        return f"and the API server does not say why: {error!r}"
    return "\n".join(dict.fromkeys(f"  {line}" for line in reasons(pods, deployments, routes)))


def reasons(pods: list[Object], deployments: list[Object], routes: list[Object]) -> list[str]:
    """Everything that objects complain of in their status."""
    found: list[str] = []
    for pod in pods:
        for container in pod.get("status", {}).get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting")
            if waiting:
                found.append(f"pods: {waiting.get('reason')}: {waiting.get('message', '')}")
    for kind, owner in [("pods", pod) for pod in pods] + [("Deployment", d) for d in deployments]:
        for condition in owner.get("status", {}).get("conditions") or ():
            bad = "True" if condition["type"] == "ReplicaFailure" else "False"
            if condition["status"] == bad and condition["type"] in _TELLING:
                found.append(f"{kind}: {condition.get('reason')}: {condition.get('message', '')}")
    for route in routes:
        parents = route.get("status", {}).get("parents") or ()
        if not parents:
            found.append("HTTPRoute: no gateway has looked at it")
        found += [
            f"HTTPRoute: {condition['reason']}: {condition.get('message', '')}"
            for parent in parents
            for condition in parent.get("conditions") or ()
            if condition["status"] == "False"
        ]
    return found


_TELLING: Final = ("PodScheduled", "ReplicaFailure")
