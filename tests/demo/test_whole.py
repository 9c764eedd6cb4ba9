# SPDX-License-Identifier: Apache-2.0
"""Each story as a person would start it, and what is left of a demo stopped in the middle."""

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.demo.stories import NAMES

# Clients and pods of a single one fill a core, and on a slow machine four of them share two.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(260)]

STORY_SECONDS = 220.0

SURE = {
    "good": "with 95.3 % certainty at most (?P<most>[0-9.]+) % more errors than stable",
    "errors": r"evidence 10\^(?P<have>[0-9.]+) of 10\^(?P<need>[0-9.]+) needed",
    "slow": r"evidence 10\^(?P<have>[0-9.]+) of 10\^(?P<need>[0-9.]+) needed",
}
"""How sure the judge was, in the last words of a run."""
GONE_SECONDS = 20.0


@contextlib.asynccontextmanager
async def demo(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The demo as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", "demo", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def children(pid: int) -> set[int]:
    """All processes below one, as the kernel knows them."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            found |= {child} | children(child)
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie does not."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            if state[0] != "Z":
                found.add(pid)
    return found


@pytest.mark.parametrize("name", NAMES)
async def test_the_story_is_told_well(name: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    async with demo("--story", name, "--report", str(file)) as process:
        async with asyncio.timeout(STORY_SECONDS):
            output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    (story,) = json.loads(file.read_text(encoding="utf-8"))["stories"]
    assert story["outcome"] == story["expected"]
    assert story["problems"] == []
    assert story["failed_by_shifting"] == 0
    if name in {"errors", "slow"}:
        assert story["visible_to_zero_seconds"] > 0
        assert story["bad_responses"] > 0
    if name in SURE:
        told = re.search(SURE[name], story["why"])
        assert told, story["why"]
        sure = {key: float(figure) for key, figure in told.groupdict().items()}
        # The policy's safe margin was proven for the last step, and the bake has fewer of stable.
        assert sure.get("most", 0.0) < 10.0
        assert sure.get("have", 0.0) >= sure.get("need", 0.0)
    if name == "kill":
        assert story["kill_to_zero_seconds"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
async def test_nothing_is_left_behind(number: signal.Signals) -> None:
    async with demo("--story", "good") as process:
        assert process.stdout is not None
        async with asyncio.timeout(STORY_SECONDS):
            # From this line on all parts are up.
            while not (await process.stdout.readline()).startswith(b"good:"):
                assert process.returncode is None
            below = children(process.pid)
            assert len(below) >= 9  # Cluster, Traefik, Prometheus, load, daemon and four pods.
            process.send_signal(number)
            await process.wait()
        if number is signal.SIGINT:
            assert process.returncode == 130
        async with asyncio.timeout(GONE_SECONDS):
            while True:
                if not alive(below):
                    break
                await asyncio.sleep(0.05)
