# SPDX-License-Identifier: Apache-2.0
"""A route of another namespace, whose grant names the team's own Service and not the canary's."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.conftest import Lab, Space
from tests.cluster.installed import Installed
from tests.cluster.lab import records
from tests.cluster.lab.application import App, Object, deployment, route, service, until
from tests.cluster.lab.manifests import GATEWAY_GROUP
from tests.cluster.scenes import shipped
from tests.support.dialects import MERGE
from tests.support.realtime import plain

pytestmark = [pytest.mark.timeout(600), pytest.mark.once]

POLICY = {"policy": "fast", "steps": "5@3s,50@3s", "bake": "3s"}


def grant(home: str, *services: str) -> Object:
    """HTTPRoutes of a namespace may lead to these Services."""
    return {
        "apiVersion": f"{GATEWAY_GROUP}/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "edge"},
        "spec": {
            "from": [{"group": GATEWAY_GROUP, "kind": "HTTPRoute", "namespace": home}],
            "to": [{"group": "", "kind": "Service", "name": name} for name in services],
        },
    }


async def stands(home: App, shop: App, **about: Any) -> None:
    """An application whose route is in another namespace; nothing is granted yet."""
    await shop.create("deployments", deployment(shop.name, **about))
    await shop.create("services", service(shop.name))
    made = route(shop.name, shop.host, shop.gateway)
    (backend,) = made["spec"]["rules"][0]["backendRefs"]
    backend["namespace"] = shop.namespace
    await home.create("httproutes", made)
    await shop.complete()


async def unresolved(home: App, name: str) -> bool:
    """The gateway says that it may not follow a route."""
    status = (await home.read("httproutes", name)).get("status") or {}
    return any(
        (condition["type"], condition["reason"]) == ("ResolvedRefs", "RefNotPermitted")
        for parent in status.get("parents") or ()
        for condition in parent["conditions"]
    )


@pytest.mark.parametrize("plane", ["traefik", pytest.param("envoy", marks=pytest.mark.deep)])
async def test_a_grant_has_to_cover_the_canary(
    gate: Installed, lab: Lab, space: Space, app: Callable[..., App], plane: str
) -> None:
    """Refused until it does, since the gateway heeds it; then promoted, and nobody fails."""
    shop, other = app(gateway=plane), app("other", gateway=plane)
    home = App(port=lab.api, namespace=space.system, name=shop.name, gateway=plane)
    address = str(getattr(lab, plane))
    grants = f"/apis/{GATEWAY_GROUP}/v1beta1/namespaces/{shop.namespace}/referencegrants"
    options = (f"--provider={plane}", "--provider=application", f"--namespace={space.system}")
    daemon, own = await shipped(gate, lab, space, options=options)
    answer = await shop.send("POST", grants, grant(home.namespace, shop.name))
    assert answer.status == 201, answer.content
    await stands(home, shop, annotations=POLICY, replicas=2)
    await stands(home, other, replicas=1)
    await daemon.start()
    await shop.adopted(daemon.log)
    load = await lab.load(shop)
    await until(lambda: unresolved(home, other.name), 30.0, "the gateway heeds grants")
    async with plain() as http:
        said = await http.get(f"http://{address}/", headers={"Host": other.host})
    assert said.status_code >= 500
    assert "x-version" not in said.headers

    await shop.deploy("v2")
    state = await records.reached(lab.api, own.system, "Held", log=daemon.log)
    assert "no ReferenceGrant lets" in state["reason"]
    assert f"HTTPRoute {home.namespace}/{shop.name}" in state["reason"]
    assert f"Service {shop.namespace}/{shop.name}-canary" in state["reason"]
    names = {item["metadata"]["name"] for item in await shop.every("services")}
    assert names == {shop.name, other.name}
    assert (await shop.ready())["v2"] == 0
    assert await home.weights() == {shop.name: 1}
    await load.until_answered(200)
    assert load.failures == {}

    wide = grant(home.namespace, shop.name, f"{shop.name}-canary")
    answer = await shop.send("PATCH", f"{grants}/edge", wide, MERGE)
    assert answer.status == 200, answer.content
    await records.reached(lab.api, own.system, "Judging", log=daemon.log)
    await records.ended(lab.api, own.system, "promoted", daemon.log)
    await shop.complete()
    assert (await shop.ready())["v2"] == 2
    assert await home.weights() == {shop.name: 1}
    assert load.failures == {}
