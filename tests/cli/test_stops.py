# SPDX-License-Identifier: Apache-2.0
"""`kill`, `abort` and `pause` with the daemon stopped: the caller's own rights are enough."""

import json
from pathlib import Path

import pytest
import yaml

from controller.sim.apiserver.errors import ApiError
from controller.sim.apiserver.request import Request, Response, error_response
from tests.cli.room import Room, room, standing

AFTER = "stable pods may be gone"
PEOPLE = Path(__file__).resolve().parents[2] / "manifests" / "base" / "people.yaml"


def _refuse(found: Room, part: str, *, only_writes: bool = True) -> None:
    """Let the API server forbid what has this text in path or body."""

    async def refuse(request: Request) -> Response | None:
        if only_writes and request.method == "GET":
            return None
        if part.encode() in request.path.encode() + request.body:
            return error_response(ApiError(403, "Forbidden", "not yours"))
        return None

    found.world.api.before.append(refuse)


def test_kill_latches_and_writes_weight_0(tmp_path: Path) -> None:
    """No argument, no confirmation; done twice it is as well."""
    with room(standing("Judging"), tmp_path) as found:
        assert found.share() > 0
        result = found.type("kill", "--reason", "smoke")
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("kill all: in force; 1 routes at weight 0\n")
        assert "switchgear release" in result.stdout
        assert found.share() == 0
        assert json.loads(found.latched()["all"])["reason"] == "smoke"


def _as_killer(found: Room) -> None:
    """Let the API server allow what the shipped role for stopping grants, and nothing else."""
    rules = [
        rule
        for role in yaml.safe_load_all(PEOPLE.read_text())
        if role["metadata"]["name"] == "switchgear-killer"
        for rule in role["rules"]
    ]
    verbs = {"POST": "create", "PATCH": "patch"}

    async def judge(request: Request) -> Response | None:
        _, root, *rest = request.path.split("/")
        group = "" if root == "api" else rest.pop(0)
        # What is asked of all namespaces has none in its path.
        resource, *named = rest[rest.index("namespaces") + 2 :] if len(rest) > 2 else rest[1:]
        verb = verbs.get(request.method, "get" if named else "list")
        for rule in rules:
            names = rule.get("resourceNames")
            if (
                group in rule["apiGroups"]
                and resource in rule["resources"]
                and verb in rule["verbs"]
                and (names is None or set(named) & set(names))
            ):
                return None
        return error_response(ApiError(403, "Forbidden", f"{verb} {resource}"))

    found.world.api.before.append(judge)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["Judging", "Committing"])
def test_kill_needs_no_more_than_the_role_for_it(phase: str, tmp_path: Path) -> None:
    """Which can write nothing into a Deployment: who may stop may not deploy."""
    world = standing("Rolling" if phase == "Committing" else phase)
    with room(world, tmp_path) as found:
        document = found.house().documents()[-1]
        state = json.loads(document["data"]["state"])
        document["data"]["state"] = json.dumps({**state, "phase": phase})
        world.store.update("configmaps", document)
        _as_killer(found)
        result = found.type("kill")
        assert result.exit_code == 0, result.output
        assert found.share() == 0
        told = found.type("abort", "shop/checkout")
        assert told.exit_code != 0
        assert "patch deployments" in told.output


@pytest.mark.parametrize(
    ("words", "scope", "hit"),
    [
        (("shop/checkout",), "target.shop.checkout", True),
        (("--namespace-only", "shop"), "namespace.shop", True),
        (("checkout",), "target.default.checkout", False),
    ],
)
def test_kill_of_a_part(words: tuple[str, ...], scope: str, hit: bool, tmp_path: Path) -> None:
    """What is named, and nothing else."""
    with room(standing("Judging"), tmp_path) as found:
        told = found.told("kill", *words)
        assert (told["scope"], told["latched"], told["in_force"]) == (scope, True, True)
        assert told["zeroed"] == (1 if hit else 0)
        assert set(found.latched()) == {scope}
        assert (found.share() == 0) is hit


@pytest.mark.slow
def test_kill_in_the_commit_brings_the_services_back(tmp_path: Path) -> None:
    """They follow the canary there, and weight 0 alone would lead right to it."""
    world = standing("Rolling")
    with room(world, tmp_path) as found:
        document = found.house().documents()[-1]
        state = json.loads(document["data"]["state"])
        state["phase"] = "Committing"
        document["data"]["state"] = json.dumps(state)
        world.store.update("configmaps", document)
        assert "switchgear.dev/track" in found.selector()
        assert found.type("kill").exit_code == 0
        assert found.share() == 0
        assert found.selector() == {"app": "checkout", "pod-template-hash": state["stable_hash"]}


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["Rolling", "HandingBack"])
@pytest.mark.parametrize("words", [("kill",), ("abort", "shop/checkout")])
def test_after_the_commit_it_says_what_is_pending(
    phase: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    """Exit 4, the route untouched, and where the way by hand is written down."""
    with room(standing(phase), tmp_path) as found:
        before = found.share()
        result = found.type(*words)
        assert result.exit_code == 4, result.output
        assert "NOT YET IN FORCE" in result.stdout
        assert f"shop/checkout: {AFTER} ({phase})" in result.stdout
        assert "docs/runbook.md" in result.stdout
        assert found.share() == before
        if words == ("kill",):
            assert set(found.latched()) == {"all"}


def test_kill_without_the_right_to_latch_writes_the_routes_all_the_same(tmp_path: Path) -> None:
    """Exit 4, and the problem named."""
    with room(standing("Judging"), tmp_path) as found:
        _refuse(found, "switchgear-kill")
        result = found.type("kill")
        assert result.exit_code == 4
        assert "the latch could not be persisted" in result.stdout
        assert found.share() == 0


def test_kill_without_the_right_to_the_route(tmp_path: Path) -> None:
    """Latched; nothing is claimed that is not so."""
    with room(standing("Judging"), tmp_path) as found:
        _refuse(found, "/httproutes/")
        result = found.type("kill")
        assert result.exit_code == 4
        assert "0 routes at weight 0" in result.stdout
        assert "not every route could be written" in result.stdout
        assert set(found.latched()) == {"all"}


def test_kill_without_any_right_is_no(tmp_path: Path) -> None:
    """Exit 1: there was an answer, and it was no."""
    with room(standing("Judging"), tmp_path) as found:
        _refuse(found, "/", only_writes=False)
        result = found.type("kill")
        assert result.exit_code == 1
        assert "not yours" in result.stderr
        assert found.share() > 0


def test_abort_takes_the_weight_and_marks_the_run(tmp_path: Path) -> None:
    """The daemon does the rest when it is back."""
    with room(standing("Judging"), tmp_path) as found:
        name = found.house().runs()[-1]["name"]
        result = found.type("abort", "shop/checkout")
        assert result.exit_code == 0, result.output
        assert found.share() == 0
        deployment = found.world.get("deployments", "shop", "checkout")
        assert deployment["metadata"]["annotations"]["switchgear.dev/abort"] == name
        assert found.latched() == {}


def test_abort_without_a_run_is_no(tmp_path: Path) -> None:
    """Exit 1."""
    with room(standing(), tmp_path) as found:
        result = found.type("abort", "shop/checkout")
        assert result.exit_code == 1
        assert "no run under way" in result.stderr


def test_pause_marks_the_deployment(tmp_path: Path) -> None:
    """And says how to go on; a Deployment that is not there is the answer no."""
    with room(standing(), tmp_path) as found:
        result = found.type("pause", "shop/checkout")
        assert result.exit_code == 0, result.output
        assert (
            "kubectl annotate -n shop deployment/checkout switchgear.dev/paused-" in result.stdout
        )
        deployment = found.world.get("deployments", "shop", "checkout")
        assert deployment["metadata"]["annotations"]["switchgear.dev/paused"] == "true"
        missing = found.type("pause", "shop/nobody")
        assert missing.exit_code == 1
        assert "nobody" in missing.stderr
