# SPDX-License-Identifier: Apache-2.0
"""Pipelines that bring what git says into the cluster again and again, each in its own way.

They act as a service account with every right in the application's namespace, as the controllers
of GitOps tools do.
"""

import asyncio
import contextlib
import copy
import enum
import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import build
from tests.cluster.lab.application import (
    PREFIX,
    App,
    Object,
    container,
    deployment,
    of_git,
    route,
    service,
    until,
)
from tests.cluster.lab.traffic import Traffic
from tests.cluster.lab.worker import Cluster, Refusal
from tests.cluster.scenes import LEFT, shipped
from tests.manifests.rendered import CONTROLLER
from tests.support.realtime import Daemon

HELM_SECONDS = 90.0
BETWEEN_SECONDS = 2.0
"""Tools wait 30 s and longer; here several rounds fall into each phase of a short run."""

SETTLED_ROUNDS = 5
"""In so many whatever was under way has been written."""

SHIFT = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s", "after-trip": "next-revision"}
"""A promotion by shift in half a minute; the next version may follow one that failed."""

KINDS = {"Deployment": "deployments", "Service": "services", "HTTPRoute": "httproutes"}


def helm(cluster: Cluster, *args: str | Path, kubeconfig: Path | None = None) -> str:
    """Run Helm and return what it wrote; raises Refusal with its complaint."""
    done = subprocess.run(
        [build.programs(make=False).helm, *args, "--kubeconfig", kubeconfig or cluster.kubeconfig],
        env={**os.environ, "HOME": str(cluster.folder)},
        capture_output=True,
        text=True,
        timeout=HELM_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Refusal(f"helm {' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


class Way(enum.Enum):
    """How a tool writes."""

    ARGO = ("apply",)
    """The 3-way patch of `kubectl apply`, as Argo CD does it by default."""
    FLUX = ("apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller")
    """Server-side apply that takes every field it names, as Flux does it."""
    HELM = ("upgrade", "--install", "--server-side=true", "--force-conflicts")
    """`helm upgrade` of version 4, which applies on the server, here with all it names."""
    HELM_UNFORCED = ("upgrade", "--install", "--server-side=true")
    """The same as version 4 does it by itself: what another writer changed is a conflict."""
    HELM_3 = ("upgrade", "--install", "--server-side=false")
    """The same as version 3 does it: a 3-way patch from the last release."""

    @property
    def helm(self) -> bool:
        """Whether Helm does it, with a release of its own for each round."""
        return self in {Way.HELM, Way.HELM_UNFORCED, Way.HELM_3}


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """What git has of one application, and the tool that applies it."""

    cluster: Cluster
    app: App
    way: Way
    kubeconfig: Path
    objects: list[Object]
    rounds: int = 0
    refusals: list[str] = field(default_factory=list)
    chart: Path | None = None
    """Where Helm finds its chart."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """No further round begins."""
    between: float = BETWEEN_SECONDS
    """Seconds between two rounds."""

    def commit(self, version: str, env: Mapping[str, str] | None = None) -> None:
        """Put another version into git."""
        made = copy.deepcopy(self.objects[0])
        made["spec"]["template"]["spec"]["containers"] = [container(version, env or {})]
        self.objects = [made, *self.objects[1:]]

    def edit_route(self, request: str) -> None:
        """Put another timeout of requests into the route's only rule."""
        edited = copy.deepcopy(self.objects[2])
        edited["spec"]["rules"][0]["timeouts"] = {"request": request}
        self.objects = [*self.objects[:2], edited]

    async def applied(self) -> None:
        """One round; what the API server refused is kept and does not end the pipeline."""
        try:
            if self.way.helm:
                await asyncio.to_thread(self._upgraded)
            else:
                text = yaml.safe_dump_all(self.objects)
                await self._kubectl(*self.way.value, "-f", "-", stdin=text)
        except Refusal as error:
            self.refusals.append(str(error))
        self.rounds += 1

    def _upgraded(self) -> None:
        """A release of a new version of the chart, which every object bears as a label."""
        version = f"1.0.{self.rounds}"
        labelled = copy.deepcopy(self.objects)
        for obj in labelled:
            obj["metadata"]["labels"] = {"helm.sh/chart": f"shop-{version}"}
        chart = self.chart or Path(tempfile.mkdtemp(dir=self.cluster.folder))
        self.chart = chart
        (chart / "templates").mkdir(exist_ok=True)
        about = {"apiVersion": "v2", "name": "shop", "version": version}
        (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
        (chart / "templates" / "all.yaml").write_text(yaml.safe_dump_all(labelled))
        helm(
            self.cluster,
            *(*self.way.value, "shop", chart, "--namespace", self.app.namespace),
            kubeconfig=self.kubeconfig,
        )

    async def drift(self) -> list[str]:
        """What the next round would change, by a dry run at the API server."""
        found = []
        for obj in self.objects:
            plural = KINDS[obj["kind"]]
            name = obj["metadata"]["name"]
            live = of_git(await self.app.read(plural, name))
            args = (*self.way.value, "--dry-run=server", "-o", "json", "-f", "-")
            said = await self._kubectl(*args, stdin=yaml.safe_dump(obj))
            wanted = of_git(json.loads(said))
            if wanted != live:
                found.append(f"{plural}: {live} would become {wanted}")
        return found

    async def _kubectl(self, *args: str, stdin: str = "") -> str:
        return await asyncio.to_thread(
            self.cluster.kubectl,
            *("-n", self.app.namespace, *args),
            stdin=stdin,
            kubeconfig=self.kubeconfig,
        )

    async def run(self) -> None:
        """Round after round until it is stopped; the last one is finished."""
        while not self.stopped.is_set():
            await self.applied()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), self.between)


def pipeline(cluster: Cluster, app: App, way: Way, **about: Any) -> Pipeline:
    """A pipeline for an application that is not there yet; `about` as for `deployment`."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "pipeline"}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "pipeline"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "pipeline", "namespace": app.namespace}],
    }
    rights = yaml.safe_dump_all([account, binding])
    cluster.kubectl("-n", app.namespace, "apply", "-f", "-", stdin=rights)
    return Pipeline(
        cluster=cluster,
        app=app,
        way=way,
        kubeconfig=cluster.kubeconfig_for_service_account(app.namespace, "pipeline"),
        objects=[
            deployment(app.name, **about),
            service(app.name),
            route(app.name, app.host, app.gateway),
        ],
    )


async def without_route(
    gate: Installed, lab: Lab, space: Space, shop: App, *, way: Way, policy: Mapping[str, str]
) -> tuple[Pipeline, Daemon, Space, Traffic]:
    """An application that is adopted and called, and whose pipeline leaves its route alone."""
    daemon, own = await shipped(gate, lab, space)
    git = await asyncio.to_thread(pipeline, lab.cluster, shop, way, annotations=policy, replicas=3)
    await git.applied()
    await shop.complete()
    git.objects = git.objects[:2]
    await daemon.start()
    await shop.adopted(daemon.log)
    return git, daemon, own, await lab.load(shop)


@contextlib.asynccontextmanager
async def applying(found: Pipeline) -> AsyncIterator[Pipeline]:
    """Apply round after round while the block lasts."""
    task = asyncio.ensure_future(found.run())
    try:
        yield found
    finally:
        # Not cancelled: Helm in the midst of an upgrade would leave a release that pends.
        found.stopped.set()
        await task


async def rounds(git: Pipeline, count: int) -> None:
    """Wait until git has been applied so many times more."""
    since = git.rounds

    async def so_many() -> bool:
        return git.rounds >= since + count

    await until(so_many, 30.0 * count, f"{count} rounds")


async def no_more_writes(cluster: Cluster, git: Pipeline) -> None:
    """At rest nothing is written, however often git is applied.

    What was decided before may be on its way: a phase that is told, or an Event.
    """
    settled = written(cluster, git.app.namespace)
    for _ in range(SETTLED_ROUNDS):
        await rounds(git, 1)
        before, settled = settled, written(cluster, git.app.namespace)
        if before == settled:
            break
    await rounds(git, 2)
    more = written(cluster, git.app.namespace) - settled
    assert not more, f"written at rest: {more}"


def written(cluster: Cluster, namespace: str) -> Counter[str]:
    """Writes that were accepted, by object of the application's namespace."""
    events = cluster.audited(
        lambda event: (
            event["verb"] in {"create", "update", "patch", "delete"}
            and event.get("objectRef", {}).get("namespace") == namespace
            and event["responseStatus"]["code"] < 300
        ),
        user=CONTROLLER,
    )
    refs = [event["objectRef"] for event in events]
    return Counter(f"{ref['resource']}/{ref.get('name', '')}" for ref in refs)


def theirs(found: dict[str, Object]) -> dict[str, Object]:
    """The team's objects without the few annotations that we may leave on a Deployment."""
    for name in LEFT:
        found["deployments"]["metadata"].get("annotations", {}).pop(PREFIX + name, None)
    for obj in found.values():
        annotations = obj["metadata"].get("annotations") or {}
        # Apply notes the manifest itself here, and Helm its chart's version there.
        annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
        obj["metadata"].get("labels", {}).pop("helm.sh/chart", None)
        if not obj["metadata"].get("labels", True):
            del obj["metadata"]["labels"]
    return found
