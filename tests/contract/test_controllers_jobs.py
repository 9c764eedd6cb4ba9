# SPDX-License-Identifier: Apache-2.0
"""What holding a Job back by `suspend` does and does not do."""

from __future__ import annotations

from typing import Any

from tests.contract import acts, samples
from tests.contract.worlds import contract
from tests.support.world import World

JOB = "batch.kubernetes.io/job-name"
HOLD = {"spec": {"suspend": True}}
GO = {"spec": {"suspend": False}}
ZONE = {"spec": {"template": {"spec": {"nodeSelector": {"zone": "a"}}}}}


async def _reasoned(world: World, wanted: str) -> dict[str, Any]:
    """Wait until the Job's condition has a reason, and return the Job."""
    found: dict[str, Any] = {}

    async def look() -> bool:
        found.clear()
        found.update(await world.read("jobs", "work"))
        return acts.reason(found, "Suspended") == wanted

    await world.eventually(look, what=f"Suspended because of {wanted}")
    return found


async def _at_work(world: World, count: int) -> list[dict[str, Any]]:
    """Wait until so many pods of the Job are at work, and return them."""
    found: list[dict[str, Any]] = []

    async def look() -> bool:
        found[:] = await acts.pods(world, {JOB: "work"})
        status = (await world.read("jobs", "work")).get("status", {})
        return [len(found), status.get("active", 0)] == [count] * 2

    await world.eventually(look, what=f"{count} pods at work, seen {len(found)}")
    return found


async def _idle(world: World) -> None:
    """Look for a second."""
    looks = iter(range(20))

    async def enough() -> bool:
        assert await acts.pods(world) == []
        return next(looks, None) is None

    await world.eventually(enough)


@contract(controllers=True)
async def test_a_job_created_suspended_makes_no_pods(world: World) -> None:
    await world.made("jobs", samples.job("work", suspend=True))
    held = await _reasoned(world, "JobSuspended")
    assert "startTime" not in held["status"]
    await _idle(world)


@contract(controllers=True)
async def test_a_job_that_is_resumed_makes_its_pods(world: World) -> None:
    await world.made("jobs", samples.job("work", suspend=True, parallelism=2, completions=3))
    await _reasoned(world, "JobSuspended")
    await acts.change(world, "work", GO, "jobs")
    pods = await _at_work(world, 2)
    job = await _reasoned(world, "JobResumed")
    assert job["status"]["startTime"]
    for pod in pods:
        (ref,) = pod["metadata"]["ownerReferences"]
        assert (ref["kind"], ref["uid"]) == ("Job", job["metadata"]["uid"])


@contract(controllers=True)
async def test_suspending_again_takes_the_pods_and_the_time_of_the_start(world: World) -> None:
    await world.made("jobs", samples.job("work"))
    (first,) = await _at_work(world, 1)
    assert (await world.read("jobs", "work"))["status"]["startTime"]
    await acts.change(world, "work", HOLD, "jobs")
    held = await _reasoned(world, "JobSuspended")
    assert "startTime" not in held["status"]
    await acts.gone(world, "pods")
    await acts.change(world, "work", GO, "jobs")
    (second,) = await _at_work(world, 1)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    (condition,) = (await _reasoned(world, "JobResumed"))["status"]["conditions"]
    assert condition["status"] == "False"


@contract(controllers=True)
async def test_a_job_that_was_never_suspended_says_nothing_of_it(world: World) -> None:
    await world.made("jobs", samples.job("work"))
    await _at_work(world, 1)
    assert acts.reason(await world.read("jobs", "work"), "Suspended") == ""


@contract(controllers=True)
async def test_where_it_runs_may_change_while_it_has_not_started(world: World) -> None:
    await world.made("jobs", samples.job("work", suspend=True))
    await _reasoned(world, "JobSuspended")
    await acts.change(world, "work", ZONE, "jobs")
    notes = {"spec": {"template": {"metadata": {"labels": {"queue": "night"}}}}}
    await acts.change(world, "work", notes, "jobs")
    held = await world.read("jobs", "work")
    assert held["spec"]["template"]["spec"]["nodeSelector"] == {"zone": "a"}


@contract(controllers=True)
async def test_what_it_runs_may_not_change(world: World) -> None:
    await world.made("jobs", samples.job("work", suspend=True))
    await _reasoned(world, "JobSuspended")
    answer = await world.patch("jobs", "work", acts.image_patch("lab/pause:2"), "strategic")
    assert answer.status == 422, answer.content
    assert answer.causes == [("FieldValueInvalid", "spec.template.spec")]


@contract(controllers=True)
async def test_nothing_of_the_template_may_change_once_it_has_started(world: World) -> None:
    await world.made("jobs", samples.job("work"))
    await _at_work(world, 1)
    answer = await world.patch("jobs", "work", ZONE, "strategic")
    assert answer.status == 422, answer.content
    assert answer.causes == [("FieldValueInvalid", "spec.template")]


@contract(controllers=True)
async def test_it_may_change_again_once_it_is_held_again(world: World) -> None:
    await world.made("jobs", samples.job("work"))
    await _at_work(world, 1)
    await acts.change(world, "work", HOLD, "jobs")
    await _reasoned(world, "JobSuspended")
    await acts.change(world, "work", ZONE, "jobs")


@contract(controllers=True)
async def test_how_many_pods_run_side_by_side_follows_the_job(world: World) -> None:
    await world.made("jobs", samples.job("work", parallelism=1, completions=3))
    await _at_work(world, 1)
    await acts.change(world, "work", {"spec": {"parallelism": 3}}, "jobs")
    await _at_work(world, 3)
    await acts.change(world, "work", {"spec": {"parallelism": 0}}, "jobs")
    await _at_work(world, 0)


@contract
async def test_pods_of_a_job_end(world: World) -> None:
    made = samples.job("work")
    made["spec"]["template"]["spec"].pop("restartPolicy")
    answer = await world.create("jobs", made)
    assert answer.status == 422
    assert answer.causes == [("FieldValueRequired", "spec.template.spec.restartPolicy")]
    for name, value in (("completions", 2), ("completionMode", "Indexed")):
        await world.made("jobs", samples.job(f"work-{name.lower()}", suspend=True))
        body = {"spec": {name: value}}
        answer = await world.patch("jobs", f"work-{name.lower()}", body)
        assert answer.status == 422, answer.content
        assert ("FieldValueInvalid", f"spec.{name}") in answer.causes
