# SPDX-License-Identifier: Apache-2.0
"""What a server says about itself, and the two reviews."""

from __future__ import annotations

import json
from typing import Any

from controller.sim.apiserver.resources import RESOURCES
from tests.contract.openapi import SCHEMA_FILE, reduce, render
from tests.contract.worlds import contract
from tests.support.world import World

# TCPRoute is in the experimental channel of the Gateway API, which few clusters install.
NOT_INSTALLED = "/apis/gateway.networking.k8s.io/v1alpha2"
SERVED = {
    "/api/v1": {
        "namespaces",
        "pods",
        "pods/binding",
        "services",
        "configmaps",
        "secrets",
        "events",
    },
    "/apis/apps/v1": {"deployments", "deployments/scale", "deployments/status", "replicasets"},
    "/apis/coordination.k8s.io/v1": {"leases"},
    "/apis/discovery.k8s.io/v1": {"endpointslices"},
    "/apis/policy/v1": {"poddisruptionbudgets"},
    "/apis/autoscaling/v2": {"horizontalpodautoscalers"},
    "/apis/batch/v1": {"jobs"},
    "/apis/networking.k8s.io/v1": {"ingresses"},
    "/apis/authentication.k8s.io/v1": {"tokenreviews"},
    "/apis/authorization.k8s.io/v1": {"subjectaccessreviews"},
    "/apis/gateway.networking.k8s.io/v1": {
        "httproutes",
        "httproutes/status",
        "grpcroutes",
        "gateways",
        "gatewayclasses",
        "tlsroutes",
        "backendtlspolicies",
    },
    "/apis/gateway.networking.k8s.io/v1beta1": {"referencegrants"},
}


@contract
async def test_health_is_plain_text(world: World) -> None:
    for path in ("/readyz", "/livez", "/healthz"):
        answer = await world.send("GET", path, accept="*/*")
        assert (answer.status, answer.content) == (200, b"ok")


@contract
async def test_the_version_is_told(world: World) -> None:
    version = (await world.send("GET", "/version")).json
    assert version["major"] == "1"
    assert version["gitVersion"].startswith("v1.37.")


@contract
async def test_the_kinds_that_the_product_needs_are_discovered(world: World) -> None:
    for path, wanted in SERVED.items():
        listed = (await world.send("GET", path)).json
        assert listed["kind"] == "APIResourceList"
        assert wanted <= {entry["name"] for entry in listed["resources"]}, path


@contract
async def test_groups_are_discovered(world: World) -> None:
    groups = (await world.send("GET", "/apis")).json["groups"]
    assert {"apps", "gateway.networking.k8s.io"} <= {group["name"] for group in groups}
    assert (await world.send("GET", "/api")).json["versions"] == ["v1"]
    assert (await world.send("GET", "/apis/apps")).json["kind"] == "APIGroup"


@contract
async def test_short_names_are_discovered(world: World) -> None:
    listed = (await world.send("GET", "/apis/apps/v1")).json["resources"]
    short = {entry["name"]: entry.get("shortNames") for entry in listed}
    assert short["deployments"] == ["deploy"]
    assert short["replicasets"] == ["rs"]


@contract
async def test_openapi_says_which_lists_merge(world: World) -> None:
    document = (await world.send("GET", "/openapi/v3/apis/apps/v1")).json
    spec = document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    assert spec["properties"]["containers"]["x-kubernetes-patch-merge-key"] == "name"


@contract
async def test_an_unknown_token_is_not_authenticated(world: World) -> None:
    found = await _who(world, "nonsense")
    assert not found.get("authenticated")
    assert found["error"]


@contract
async def test_a_token_is_good_for_its_audience_alone(world: World) -> None:
    """Whoever accepts it for another one can be sent tokens that were given to somebody else."""
    account = await world.made("serviceaccounts", {"metadata": {"name": "agent"}})
    name = f"system:serviceaccount:{world.namespace}:agent"
    token = await _token(world, "switchgear")
    found = await _who(world, token, "another", "switchgear")
    assert found["authenticated"] is True
    assert found["audiences"] == ["switchgear"]
    assert found["user"]["username"] == name
    assert found["user"]["uid"] == account["metadata"]["uid"]
    assert set(found["user"]["groups"]) == {
        "system:serviceaccounts",
        f"system:serviceaccounts:{world.namespace}",
        "system:authenticated",
    }
    for audiences in ((), ("another",)):
        found = await _who(world, token, *audiences)
        assert not found.get("authenticated"), audiences
        assert "audiences" in found["error"]


@contract
async def test_a_token_without_an_audience_is_good_for_the_api_server(world: World) -> None:
    await world.made("serviceaccounts", {"metadata": {"name": "agent"}})
    token = await _token(world)
    assert (await _who(world, token))["authenticated"] is True
    assert not (await _who(world, token, "switchgear")).get("authenticated")


@contract
async def test_a_token_for_an_account_that_does_not_exist_is_a_404(world: World) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = world.path("serviceaccounts", "nobody", "token")
    assert (await world.send("POST", path, body)).status == 404


async def _token(world: World, *audiences: str) -> str:
    spec = {"audiences": list(audiences)} if audiences else {}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = await world.send("POST", world.path("serviceaccounts", "agent", "token"), body)
    assert answer.status == 201, answer.content
    return str(answer.json["status"]["token"])


async def _who(world: World, token: str, *audiences: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"token": token}
    if audiences:
        spec["audiences"] = list(audiences)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    answer = await world.send("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
    assert answer.status == 201, answer.content
    return dict(answer.json["status"])


@contract
async def test_an_access_review_answers_about_the_caller(world: World) -> None:
    attributes = _on_the_canary(world, "promote")
    found = await _reviewed(world, "SelfSubjectAccessReview", resourceAttributes=attributes)
    assert found["status"]["allowed"] is True
    assert found["spec"]["resourceAttributes"]["subresource"] == "canary"


@contract
async def test_an_access_review_answers_about_anybody(world: World) -> None:
    """On real and on virtual subresources: nobody without a role, and always an administrator."""
    kind = "SubjectAccessReview"
    for about in (
        _on_the_canary(world, "release"),
        {"namespace": world.namespace, "verb": "get", "resource": "pods"},
    ):
        who = {"user": "ann", "groups": ["people", "system:authenticated"]}
        found = await _reviewed(world, kind, **who, resourceAttributes=about)
        assert found["status"]["allowed"] is False
        assert found["spec"] == {**who, "resourceAttributes": about}
        found = await _reviewed(world, kind, user="ann", resourceAttributes=about)
        assert found["status"]["allowed"] is False
        who = {"user": "ann", "groups": ["system:masters"]}
        found = await _reviewed(world, kind, **who, resourceAttributes=about)
        assert found["status"]["allowed"] is True


def _on_the_canary(world: World, verb: str) -> dict[str, str]:
    """A right on a subresource that no server serves: only roles and reviews know of it."""
    return {
        "namespace": world.namespace,
        "verb": verb,
        "group": "apps",
        "resource": "deployments",
        "subresource": "canary",
        "name": "checkout",
    }


async def _reviewed(world: World, kind: str, **spec: Any) -> dict[str, Any]:
    path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    answer = await world.send("POST", path, body)
    assert answer.status == 201, answer.content
    return dict(answer.json)


@contract
async def test_paths_outside_the_api_are_plain_404s(world: World) -> None:
    assert (await world.send("GET", "/nonsense")).status == 404


@contract
async def test_the_schema_is_that_of_the_server(world: World) -> None:
    """A newer Kubernetes makes this fail in the real world; `tests.contract.openapi` says how."""
    known = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    versions = sorted({served.prefix for served in RESOURCES} - {NOT_INSTALLED})
    answers = [await world.send("GET", f"/openapi/v3{prefix}") for prefix in versions]
    told = reduce(answer.json for answer in answers)
    for identity, name in told["kinds"].items():
        assert known["kinds"][identity] == name
    differing = [
        name
        for name, definition in told["definitions"].items()
        if known["definitions"].get(name) != definition
    ]
    assert differing == []
    assert len(told["kinds"]) >= len(RESOURCES) - 1


def test_the_schema_file_has_the_form_that_its_maker_writes() -> None:
    text = SCHEMA_FILE.read_text(encoding="utf-8")
    assert render(json.loads(text)) == text
