# SPDX-License-Identifier: Apache-2.0
"""Interception by the API server, with nobody from Switchgear there.

The controller's part is played with the rights of its own account. Each way to write is tried on
the same Deployment, which is put back in between.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.lab.application import App
from tests.cluster.people import V2, Desk, Object, P, of_git, template

pytestmark = pytest.mark.timeout(400)


def _ways(desk: Desk) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every way in which people and pipelines change a template."""
    kubectl, patch = desk.kubectl, desk.patch
    name = "deployment/checkout"
    file = ("-f", "-")
    yield "set image", lambda: kubectl("set", "image", name, f"app={V2}")
    yield "set env", lambda: kubectl("set", "env", name, "A=b")
    yield "apply", lambda: kubectl("apply", *file, stdin=of_git(desk, V2))
    yield (
        "apply --server-side",
        lambda: kubectl(
            "apply", "--server-side", "--force-conflicts", *file, stdin=of_git(desk, V2)
        ),
    )
    yield (
        "apply, unpausing in the same write",
        lambda: kubectl(
            *("apply", "--server-side", "--force-conflicts", "--field-manager=flux", *file),
            stdin=of_git(desk, V2, paused=False),
        ),
    )
    yield "edit", lambda: kubectl("edit", name)
    yield "rollout restart", lambda: kubectl("rollout", "restart", name)
    yield (
        "merge patch",
        lambda: patch({"spec": {"template": {"metadata": {"labels": {"more": "1"}}}}}),
    )
    yield "strategic patch", lambda: patch(template(V2), form="strategic")
    yield (
        "json patch",
        lambda: patch(
            [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": V2}]
        ),
    )
    yield "replace", lambda: kubectl("replace", *file, stdin=of_git(desk, V2))
    yield (
        "a claim that it is nobody's",
        lambda: patch(
            {
                "metadata": {"annotations": {P + "managed": None, P + "hold": None}},
                "spec": {"paused": False, "template": {"metadata": {"labels": {"more": "2"}}}},
            }
        ),
    )


def _back(desk: Desk, first: Object) -> None:
    """Put the Deployment back as the controller would, unpaused on its stable template."""
    desk.patch(
        [
            {"op": "replace", "path": "/spec/template", "value": first["spec"]["template"]},
            {"op": "add", "path": "/spec/paused", "value": False},
            {"op": "remove", "path": "/metadata/annotations/switchgear.dev~1hold"},
        ],
        user=desk.gate.controller,
    )


async def test_every_way_to_change_a_template_is_held(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Paused, marked and signed, and not one ReplicaSet more than before."""
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\nsed -i 's#registry.example/app:v1#{V2}#' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    first = desk.get()
    problems: dict[str, str] = {}
    for name, change in _ways(desk):
        desk.patch({"metadata": {"annotations": {P + "maker": None}}}, user=desk.gate.controller)
        await asyncio.to_thread(change)
        await desk.seen()
        found, notes = desk.get(), desk.notes()
        if found["spec"]["template"] == first["spec"]["template"]:
            problems[name] = "nothing was changed"
        elif not found["spec"].get("paused") or notes.get("hold") != "template":
            problems[name] = f"not held: {notes}"
        elif notes.get("maker") != "alice" or "managed" not in notes:
            problems[name] = f"not signed: {notes}"
        elif desk.sets() != 1:
            problems[name] = "a new ReplicaSet was made"
        if "hold" in notes:
            _back(desk, first)
            await desk.seen()
    assert problems == {}


async def test_an_undo_is_held(desk: Desk) -> None:
    """`rollout undo` needs a history: the controller lets one change through, then it is undone."""
    desk.as_controller(template(V2) | {"metadata": {"annotations": {}}})
    desk.patch(
        [{"op": "replace", "path": "/spec/template/metadata/labels/app", "value": "checkout"}],
        user=desk.gate.controller,
    )
    await desk.app.complete()
    assert desk.sets() == 2
    desk.kubectl("rollout", "undo", "deployment/checkout")
    await desk.seen()
    notes = desk.notes()
    assert (notes["hold"], notes["maker"]) == ("template", "alice")
    assert desk.get()["spec"]["paused"] is True


async def test_what_is_no_change_of_the_template_goes_through(desk: Desk) -> None:
    """Scaling, labels, strategy and a pause of one's own are nobody's business."""
    desk.kubectl("scale", "deployment/checkout", "--replicas=2")
    desk.kubectl("label", "deployment/checkout", "team=web")
    desk.patch({"spec": {"minReadySeconds": 1}})
    desk.kubectl("rollout", "pause", "deployment/checkout")
    found = desk.get()
    assert found["spec"]["replicas"] == 2
    assert found["metadata"]["labels"]["team"] == "web"
    assert found["spec"]["minReadySeconds"] == 1
    assert found["spec"]["paused"] is True
    assert desk.notes().keys() == {"policy", "managed"}
    desk.kubectl("rollout", "resume", "deployment/checkout")
    assert not desk.get()["spec"].get("paused")


@pytest.mark.usefixtures("gate")
async def test_nothing_is_held_where_no_controller_watches(
    app: Callable[..., App],
) -> None:
    """Neither on creation nor later: nobody would ever let it go."""
    shop = app()
    await shop.start(replicas=1, annotations={"policy": "fast"})
    await shop.deploy("v2")
    await shop.complete()
    assert await shop.ready() == {"v2": 1}
    assert await shop.annotation("hold") is None
    assert await shop.annotation("maker") is None


@pytest.mark.usefixtures("gate")
async def test_deployments_without_a_policy_are_not_touched(
    app: Callable[..., App],
) -> None:
    shop = app()
    await shop.start(replicas=1)
    created = await shop.read("deployments")
    await shop.deploy("v2")
    await shop.complete()
    found = await shop.read("deployments")
    assert not any(P in key for key in found["metadata"]["annotations"])
    assert "paused" not in found["spec"]
    assert created["metadata"].get("annotations", {}).keys() <= {
        "deployment.kubernetes.io/revision"
    }
