# SPDX-License-Identifier: Apache-2.0
"""What can be read at the doors, and who may come in."""

import asyncio
from pathlib import Path

import rfc8785
from prometheus_client.parser import text_string_to_metric_families

from controller.core.journal import chain
from controller.engine.desk import Desk
from controller.engine.health import STALE_SECONDS, Health
from controller.sim import clock
from tests.engine.house import House
from tests.http.front import Front, doors, fronted

FIGURES = {
    "switchgear_runs_started",
    "switchgear_runs_ended",
    "switchgear_ticks",
    "switchgear_verdicts",
    "switchgear_breaker_trips",
    "switchgear_kills",
    "switchgear_notices",
    "switchgear_journal_failures",
    "switchgear_metrics_failures",
    "switchgear_promises_broken",
    "switchgear_rollback_write_seconds",
    "switchgear_runs_active",
    "switchgear_kill_latches",
    "switchgear_phase_seconds",
    "switchgear_api_requests",
}
GUARDED = [
    ("GET", "/v1/runs"),
    ("GET", "/v1/runs/any"),
    ("GET", "/v1/targets"),
    ("POST", "/v1/kill"),
    ("POST", "/v1/release"),
    ("POST", "/v1/targets/shop/checkout/abort"),
]


async def _figures(front: Front) -> dict[str, float]:
    answer = await front.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert {family.name for family in families} >= FIGURES
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_runs_targets_and_figures_of_a_run() -> None:
    """While it is under way and after its end, with a journal that verifies."""

    async def story() -> None:
        async with fronted(phase="Judging") as front:
            (run,) = (await front.http.get("/v1/runs")).json()["runs"]
            assert (run["phase"], run["outcome"], run["weight_bp"]) == ("Judging", None, 500)
            assert run["target"] == {"namespace": "shop", "name": "checkout"}
            assert [step["weight_bp"] for step in run["steps"]] == [500, 2500, 9500]
            assert "journal" not in run
            (target,) = (await front.http.get("/v1/targets")).json()["targets"]
            assert (target["phase"], target["run"]) == ("Judging", run["name"])
            assert target["why"]
            figures = await _figures(front)
            assert figures["switchgear_runs_active"] == 1
            assert figures["switchgear_kill_latches"] == 0
            assert figures["switchgear_phase_seconds"] == 0, "it judges"
            await front.kill()
            await front.house.ended("killed")
            one = (await front.http.get(f"/v1/runs/{run['name']}")).json()
            assert one["outcome"] == "killed"
            assert len(one["journal"]) == one["records"]
            lines = [rfc8785.dumps(record).decode() for record in one["journal"]]
            assert chain.verify(lines) == []
            figures = await _figures(front)
            assert figures["switchgear_kills_total"] == 1
            assert figures["switchgear_kill_latches"] == 1
            assert figures["switchgear_runs_started_total"] == 1
            assert figures["switchgear_notices_total/Killed"] == 1
            assert figures["switchgear_rollback_write_seconds_count"] >= 0
            assert figures["switchgear_api_requests"] == 7
            assert figures["switchgear_breaker_trips_total"] == 0

    clock.run(story())


def test_an_open_breaker_is_seen() -> None:
    """In the run, in the target and in the figures; the verdict has both sides' counts."""

    async def story() -> None:
        async with fronted() as front:
            front.house.world.set_image(
                "shop", "checkout", "registry.example/app:v2", {"ERROR_RATE": "0.5"}
            )
            await front.house.ended("rolled-back")
            (run,) = (await front.http.get("/v1/runs")).json()["runs"]
            assert run["breaker_open"]
            assert run["quarantined"]
            assert run["verdict"]["outcome"] == "fail"
            assert run["verdict"]["canary"]["errors"] > 0
            assert run["verdict"]["stable"]["requests"] > 0
            (target,) = (await front.http.get("/v1/targets")).json()["targets"]
            assert target["breaker_open"]
            figures = await _figures(front)
            assert figures["switchgear_breaker_trips_total"] == 1
            assert figures["switchgear_rollback_write_seconds_count"] >= 1
            await front.act("release")
            await asyncio.sleep(60)
            (run,) = (await front.http.get("/v1/runs")).json()["runs"]
            assert not run["breaker_open"]

    clock.run(story())


def test_a_controller_is_ready_when_its_caches_are() -> None:
    """It lives at once; it is ready when it has seen the cluster, and says what it waits for."""

    async def story() -> None:
        async with fronted(rate=0.0) as front:
            await front.house.stop()
            late = House(front.house.world)
            hooks = front.house.world.api.before
            gate = asyncio.Event()

            async def hold(_request: object) -> None:
                await gate.wait()

            hooks.append(hold)
            await late.start()
            async with doors(late) as http:
                assert (await http.get("/livez")).status_code == 200
                unready = await http.get("/readyz")
                assert unready.status_code == 503
                assert "caches are not filled" in unready.text
                gate.set()
                await asyncio.sleep(5)
                assert (await http.get("/readyz")).text == "ok\n"
            await late.stop()

    clock.run(story())


def test_an_old_picture_is_not_ready() -> None:
    """Silence of the API server is told with its length."""
    health = Health(synced=lambda: True, stale_seconds=lambda: STALE_SECONDS + 1, requests=int)
    assert health.problems() == [
        f"nothing was heard from the API server for {STALE_SECONDS + 1:.0f} s"
    ]
    assert Desk().known is False


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    """Everywhere below /v1 and nowhere else; a wrong one is as good as none."""
    file = tmp_path / "token"
    file.write_text("s3cret\n")

    async def story() -> None:
        async with fronted(rate=0.0, token_file=file) as front:
            for method, path in GUARDED:
                for given in ("", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret"):
                    headers = {"Authorization": given} if given else {}
                    answer = await front.http.request(method, path, headers=headers)
                    assert answer.status_code == 401, (path, given)
                    assert answer.json()["code"] == "Unauthenticated"
                    assert "s3cret" not in answer.text
            assert front.latched() == set()
            for path in ("/livez", "/readyz", "/metrics"):
                assert (await front.http.get(path)).status_code == 200
            good = {"Authorization": "Bearer s3cret"}
            assert (await front.http.post("/v1/kill", headers=good)).status_code == 200

    clock.run(story())


def test_a_rotated_token_counts_at_once(tmp_path: Path) -> None:
    """And a file that cannot be read, or is empty, lets nobody in."""
    file = tmp_path / "token"
    file.write_text("first")

    async def story() -> None:
        async with fronted(rate=0.0, token_file=file) as front:

            async def status(token: str) -> int:
                headers = {"Authorization": f"Bearer {token}"}
                return (await front.http.get("/v1/runs", headers=headers)).status_code

            assert await status("first") == 200
            file.write_text("second")
            assert (await status("first"), await status("second")) == (401, 200)
            for content in (b"", b" \n", b"\xff\xfe\x00"):
                file.write_bytes(content)
                assert (await status(""), await status("second")) == (401, 401)
            file.unlink()
            assert (await status(""), await status("second")) == (401, 401)

    clock.run(story())


def test_the_name_a_caller_gives_is_recorded_as_claimed(tmp_path: Path) -> None:
    """With the way it came in, and no longer than a name is."""
    file = tmp_path / "token"
    file.write_text("s3cret")

    async def story() -> None:
        async with fronted(rate=0.0, token_file=file) as front:
            headers = {"Authorization": "Bearer s3cret", "X-Switchgear-Actor": "a" * 500}
            await front.http.post("/v1/kill", headers=headers)
            found = front.house.world.get("configmaps", "switchgear", "switchgear-kill")
            assert "a" * 200 + " (token)" in found["data"]["all"]
            assert "a" * 201 not in found["data"]["all"]

    clock.run(story())
