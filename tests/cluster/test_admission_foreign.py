# SPDX-License-Identifier: Apache-2.0
"""Objects that are none of Switchgear's business, under policies that fail closed.

Each guarded kind is created, changed and deleted where a controller watches, where none does, and
where no policy reaches: what the API server answers is the same in all three.
"""

import json
from collections.abc import AsyncIterator, Callable

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab.application import App, Object, deployment, of_git, route, service
from tests.cluster.people import P
from tests.cluster.scenes import shipped
from tests.support.dialects import MERGE

pytestmark = pytest.mark.timeout(300)

NAME = "foreign"
LABELLED = {"metadata": {"labels": {"team": "web"}}}
TEMPLATE = {"metadata": LABELLED["metadata"], "spec": {"template": LABELLED}}


def _workload(kind: str, version: str = "apps/v1", **spec: object) -> Object:
    """As a Deployment of labels of its own, so that none adopts another's; it gets no pods."""
    found = deployment(kind.lower(), replicas=0)
    template = found["spec"]["template"]
    template["spec"] |= {"automountServiceAccountToken": False, "nodeSelector": {"no": "where"}}
    kept = {key: found["spec"][key] for key in ("replicas", "selector", "template")}
    meta = {"name": NAME}
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": {**kept, **spec}}


def _objects() -> dict[str, tuple[Object, Object]]:
    """By plural: an object and a merge patch, both of them without anything of ours."""
    found: dict[str, tuple[Object, Object]] = {
        "deployments": (_workload("Deployment"), TEMPLATE),
        "replicasets": (_workload("ReplicaSet"), TEMPLATE),
        "statefulsets": (_workload("StatefulSet", serviceName=NAME), TEMPLATE),
        "daemonsets": (_workload("DaemonSet"), TEMPLATE),
        "jobs": (_workload("Job", "batch/v1", suspend=True), TEMPLATE),
        "replicationcontrollers": (_workload("ReplicationController", "v1"), TEMPLATE),
    }
    del found["daemonsets"][0]["spec"]["replicas"]
    old = found["replicationcontrollers"][0]["spec"]
    old["selector"] = old["selector"]["matchLabels"]
    job = found["jobs"][0]["spec"]
    del job["replicas"], job["selector"]
    job["template"]["spec"]["restartPolicy"] = "Never"
    pod = {"apiVersion": "v1", "kind": "Pod", **_workload("Pod")["spec"]["template"]}
    pod["metadata"] = {**pod["metadata"], "name": NAME}
    found["pods"] = (pod, LABELLED)
    # A selector and a share as a run would have them are free where no run is on.
    pinned = {"spec": {"selector": {"app": NAME, "pod-template-hash": "abc"}}}
    found["services"] = (service(NAME), pinned)
    backends = [
        {"name": name, "port": 80, "weight": weight}
        for name, weight in ((NAME, 1), (f"{NAME}-canary", 9))
    ]
    weighed = {"spec": {"rules": [{"backendRefs": backends}]}}
    http = route(NAME, "foreign.example")
    grpc = {**http, "kind": "GRPCRoute", "spec": {**http["spec"], **weighed["spec"]}}
    found["httproutes"] = (http, weighed)
    found["grpcroutes"] = (grpc, {"spec": {"hostnames": ["other.example"]}})
    return found


def _plain(found: Object) -> Object:
    """What does not differ between two objects of one name in two namespaces."""
    left = of_git(found)
    meta = left["metadata"]
    uid, space = meta["uid"], meta["namespace"]
    for key in ("uid", "namespace", "creationTimestamp"):
        del meta[key]
    for key in ("clusterIP", "clusterIPs"):
        left["spec"].pop(key, None)
    text = json.dumps(left).replace(uid, "UID").replace(space, "SPACE")
    assert P not in text
    plain: Object = json.loads(text)
    return plain


@pytest.fixture
async def unguarded(lab: Lab, space: Space) -> AsyncIterator[str]:
    """A namespace in which no policy that changes or refuses anything is in force."""
    name = f"{space.name}-unguarded"
    lab.cluster.kubectl("create", "namespace", name)
    lab.cluster.kubectl("label", "namespace", name, f"{P}shape=sidecar")
    yield name
    lab.cluster.kubectl("delete", "namespace", name, "--wait=false")


async def _each(app: App, method: str) -> dict[str, Object]:
    """Send one request about every object; all are done, and the answers are returned."""
    found: dict[str, Object] = {}
    for plural, (made, patch) in _objects().items():
        path = app.path(plural, "" if method == "POST" else NAME)
        body = {"POST": made, "PATCH": patch}.get(method)
        mime = MERGE if method == "PATCH" else "application/json"
        answer = await app.send(method, path, body, mime)
        assert answer.status < 300, (plural, method, answer.content)
        assert "Switchgear" not in answer.headers.get("warning", ""), plural
        if method != "DELETE":
            found[plural] = _plain(answer.json)
    return found


async def test_what_is_not_ours_is_free_and_comes_out_as_it_was_sent(
    *, gate: Installed, lab: Lab, space: Space, unguarded: str, app: Callable[..., App]
) -> None:
    """Also by the controller, which has seen them all when it adopts what was made last."""
    daemon, _ = await shipped(gate, lab, space)
    await daemon.start()
    free = App(port=lab.api, namespace=unguarded)
    apps = [app(), App(port=lab.api, namespace=space.system)]
    for method in ("POST", "PATCH"):
        expected = await _each(free, method)
        assert [await _each(there, method) for there in apps] == [expected] * 2, method
    await apps[0].start(replicas=1, annotations={"policy": "fast"})
    await apps[0].adopted(daemon.log)
    assert [await _each(there, "GET") for there in apps] == [expected] * 2
    for there in (free, *apps):
        await _each(there, "DELETE")
