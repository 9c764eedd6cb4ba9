# SPDX-License-Identifier: Apache-2.0
"""More of what the lab does: pods of several containers, Jobs, evictions, probes, autoscalers."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.lab.application import App, Object, deployment, is_ready, service, until
from tests.support.dialects import MERGE

pytestmark = pytest.mark.timeout(180)

WELL_SECONDS = 4
"""How long a container is well that falls ill: a startup probe, ten a second, meets it by then."""

REPORT = """
import os, pathlib, urllib.request, ssl
account = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
request = urllib.request.Request(f"https://{host}:{port}/api")
request.add_header("Authorization", "Bearer " + (account / "token").read_text())
trusted = ssl.create_default_context(cafile=account / "ca.crt")
found = urllib.request.urlopen(request, context=trusted).status
settings = pathlib.Path("/etc/settings/level").read_text()
pathlib.Path("/shared/report").write_text(f"{found} {settings} {os.environ['WHO']}")
"""
WAIT = """
import pathlib, sys
from time import sleep
report = pathlib.Path("/shared/report")
while not report.exists():
    sleep(0.05)
print(report.read_text(), flush=True)
sys.exit(0 if report.read_text() == "200 high checkout-" + sys.argv[1] else 3)
"""


def python(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "python:3", "command": ["python", "-c", script], **more}


async def phase(app: App, name: str) -> str:
    return str((await app.read("pods", name)).get("status", {}).get("phase", ""))


async def test_init_and_sidecar_containers_share_address_and_volumes(
    lab: Lab, app: Callable[..., App]
) -> None:
    """The service account's token, a ConfigMap and a folder are where the manifest mounts them."""
    shop = app()
    await shop.create("configmaps", {"metadata": {"name": "settings"}, "data": {"level": "high"}})
    shared = {"name": "shared", "mountPath": "/shared"}
    pod = {
        "metadata": {"name": "pair"},
        "spec": {
            "restartPolicy": "Never",
            "volumes": [
                {"name": "shared", "emptyDir": {}},
                {"name": "settings", "configMap": {"name": "settings"}},
            ],
            "initContainers": [
                {
                    "name": "side",
                    "image": "registry.example/app:v7",
                    "restartPolicy": "Always",
                    "ports": [{"containerPort": 8080}],
                    "startupProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
                }
            ],
            "containers": [
                python(
                    "report",
                    REPORT,
                    env=[
                        {
                            "name": "NAME",
                            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
                        },
                        {"name": "WHO", "value": "checkout-$(NAME)"},
                    ],
                    volumeMounts=[
                        shared,
                        {"name": "settings", "mountPath": "/etc/settings", "readOnly": True},
                    ],
                ),
                python("wait", WAIT, args=["pair"], volumeMounts=[shared]),
            ],
        },
    }
    await shop.create("pods", pod)

    async def ended() -> bool:
        return await phase(shop, "pair") in {"Succeeded", "Failed"}

    await until(ended, 30.0, "the pod ends when its main containers have ended")
    status = (await shop.read("pods", "pair"))["status"]
    codes = [c["state"]["terminated"]["exitCode"] for c in status["containerStatuses"]]
    assert codes == [0, 0], lab.cluster.pod_log(shop.namespace, "pair")
    assert [c["name"] for c in status["initContainerStatuses"]] == ["side"]


async def test_a_suspended_job_runs_when_it_is_let(app: Callable[..., App]) -> None:
    shop = app()
    template = {"spec": {"restartPolicy": "Never", "containers": [python("go", "print(1)")]}}
    job = {"metadata": {"name": "migrate"}, "spec": {"suspend": True, "template": template}}
    await shop.create("jobs", job)
    assert await shop.pods() == []
    answer = await shop.patch("jobs", {"spec": {"suspend": False}}, name="migrate")
    assert answer.status == 200, answer.content

    async def done() -> bool:
        found = await shop.read("jobs", "migrate")
        return bool(found.get("status", {}).get("succeeded") == 1)

    await until(done, 30.0, "the Job has succeeded")


async def test_an_eviction_waits_for_the_disruption_budget(app: Callable[..., App]) -> None:
    shop = app()
    await shop.start(replicas=2)
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": shop.name}}}
    await shop.create("poddisruptionbudgets", {"metadata": {"name": "two"}, "spec": spec})

    async def counted() -> bool:
        found = await shop.read("poddisruptionbudgets", "two")
        return bool(found.get("status", {}).get("currentHealthy") == 2)

    await until(counted, 20.0, "the budget knows its pods")
    name = (await shop.pods())[0]["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": shop.namespace},
    }
    path = f"{shop.path('pods', name)}/eviction"
    assert (await shop.send("POST", path, eviction)).status == 429
    change = {"spec": {"minAvailable": 1}}
    assert (await shop.patch("poddisruptionbudgets", change, name="two", mime=MERGE)).status == 200

    async def evicted() -> bool:
        return (await shop.send("POST", path, eviction)).status == 201

    await until(evicted, 20.0, "one of two may go")
    await shop.complete()
    assert name not in {pod["metadata"]["name"] for pod in await shop.pods()}


async def test_a_probe_that_fails_takes_a_pod_out_of_service(app: Callable[..., App]) -> None:
    shop = app()
    made = deployment("checkout", replicas=1)
    container = made["spec"]["template"]["spec"]["containers"][0]
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    container["readinessProbe"] = probe
    # The application listens late, so the probe fails first.
    container["env"] = [{"name": "READY_SECONDS", "value": "3"}]
    await shop.create("deployments", made)
    await shop.create("services", service("checkout"))

    async def running() -> bool:
        return [pod["status"]["phase"] for pod in await shop.pods()] == ["Running"]

    await until(running, 20.0, "the pod runs")
    assert not any(is_ready(pod) for pod in await shop.pods())
    await shop.complete()
    assert all(is_ready(pod) for pod in await shop.pods())


def probed(name: str, env: dict[str, str], **probes: Any) -> Object:
    """A pod of the application that no readiness probe keeps back."""
    container = deployment(name, env=env)["spec"]["template"]["spec"]["containers"][0]
    del container["readinessProbe"]
    spec = {"containers": [{**container, **probes}], "terminationGracePeriodSeconds": 60}
    return {"metadata": {"name": name}, "spec": spec}


async def test_a_container_that_does_not_live_is_started_again(app: Callable[..., App]) -> None:
    """After as many failures as are too many, with the grace that is written, in the same pod."""
    shop = app()
    # Whoever is only slow, as all are that start at once on a busy machine, does not fail.
    often = {"periodSeconds": 1, "failureThreshold": 3, "timeoutSeconds": 10}
    health = {"httpGet": {"path": "/healthz", "port": "http"}, **often}
    begins = {**health, "failureThreshold": 60}
    ill = {"UNREADY_SECONDS": f"{WELL_SECONDS}"}
    # It goes on for longer than anybody waits for it: the probe's grace goes before the pod's.
    stays = {**ill, "DRAIN_SECONDS": "120"}
    late = {"READY_SECONDS": "120"}
    soon = {**health, "terminationGracePeriodSeconds": 1}
    pods = {
        "well": probed("well", {}, livenessProbe=health, startupProbe=begins),
        "goes": probed("goes", ill, livenessProbe=health, startupProbe=begins),
        "stays": probed("stays", stays, livenessProbe=soon, startupProbe=begins),
        "late": probed("late", late, livenessProbe=health, startupProbe=health),
        "never": probed("never", ill, livenessProbe=health, startupProbe=begins),
    }
    pods["never"]["spec"]["restartPolicy"] = "Never"
    made = {name: await shop.create("pods", pod) for name, pod in pods.items()}
    seen: dict[str, Object] = {}
    back: set[str] = set()

    async def again() -> bool:
        found = {name: await shop.read("pods", name) for name in pods}
        statuses = {name: pod["status"].get("containerStatuses") for name, pod in found.items()}
        seen.update({name: (each or [{}])[0] for name, each in statuses.items()})
        back.update(
            name
            for name, each in seen.items()
            if each.get("restartCount") and "running" in each["state"]
        )
        ended = found["never"]["status"].get("phase") == "Failed"
        return ended and back >= {"goes", "stays", "late"}

    await until(again, 60.0, lambda: f"{back} of {seen}", every=0.1)
    assert {n: (await shop.read("pods", n))["metadata"]["uid"] for n in pods} == {
        name: pod["metadata"]["uid"] for name, pod in made.items()
    }
    lives = {name: status["lastState"].get("terminated") for name, status in seen.items()}
    assert lives["well"] is None
    assert seen["well"]["restartCount"] == seen["never"]["restartCount"] == 0
    lives["never"] = seen["never"]["state"]["terminated"]
    codes = {name: (life["exitCode"], life["reason"]) for name, life in lives.items() if life}
    by_term, by_kill = (143, "Error"), (137, "Error")
    assert codes == {"goes": by_term, "stays": by_kill, "late": by_term, "never": by_term}
    lasted = {name: _seconds(life) for name, life in lives.items() if life}
    # Three failures at its start, or after the good seconds; times are written in whole ones.
    assert lasted.pop("late") >= 2.0
    assert min(lasted.values()) >= WELL_SECONDS + 1.0, lasted


def _seconds(terminated: Object) -> float:
    """How long that life of a container was."""
    begin, end = (datetime.fromisoformat(terminated[at]) for at in ("startedAt", "finishedAt"))
    return (end - begin).total_seconds()


async def test_an_autoscaler_follows_the_load(lab: Lab, app: Callable[..., App]) -> None:
    """CPU is what the application claims per request, so pods multiply with requests."""
    shop = app()
    made = deployment("checkout", replicas=2, env={"CPU_MS": "10"})
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"requests": {"cpu": "300m", "memory": "100Mi"}}
    await shop.start(replicas=2, template=made["spec"]["template"])
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}
    spec = {"scaleTargetRef": scaled, "minReplicas": 2, "maxReplicas": 8, "metrics": [metric]}
    await shop.create("horizontalpodautoscalers", {"metadata": {"name": "cpu"}, "spec": spec})
    # 100 requests/s at 10 ms are a whole CPU: of 150 m each, seven pods.
    load = await lab.load(shop, direct_rate=1.0)

    async def grown() -> bool:
        return int((await shop.read("deployments"))["spec"]["replicas"]) >= 6

    await until(grown, 90.0, "the autoscaler has reacted", every=0.5)
    group = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{shop.namespace}"
    told = lab.cluster.kubectl("get", "--raw", f"{group}/services/checkout/requests_per_second")
    (item,) = json.loads(told)["items"]
    assert 50_000 < int(item["value"].removesuffix("m")) < 150_000
    await shop.complete()
    assert load.failures == {}


async def test_the_product_runs_in_a_pod_as_its_service_account(
    lab: Lab, space: Space, app: Callable[..., App]
) -> None:
    """It finds the API server and its token as in any cluster, and adopts what it should."""
    account = f"system:serviceaccount:{space.system}:default"
    lab.cluster.kubectl(
        *("create", "clusterrolebinding", space.name),
        *("--clusterrole=cluster-admin", f"--user={account}"),
    )
    shop, home = app(), App(port=lab.api, namespace=space.system)
    try:
        args = [
            "run",
            f"--prometheus={lab.prometheus_url}",
            f"--namespace={space.name}",
            f"--controller-namespace={space.system}",
            "--listen=127.0.0.1:0",
        ]
        container = {"name": "controller", "image": "registry.example/switchgear:dev", "args": args}
        pod = {"metadata": {"name": "controller"}, "spec": {"containers": [container]}}
        await home.create("pods", pod)
        await shop.start(replicas=1, annotations={"policy": "fast"})
        await shop.adopted(lambda: lab.cluster.pod_log(space.system, "controller"))
        mine = lab.cluster.audited(lambda _: True, user=account)
        assert {event["verb"] for event in mine} >= {"list", "watch", "patch"}
    finally:
        lab.cluster.kubectl("delete", "clusterrolebinding", space.name)
