# SPDX-License-Identifier: Apache-2.0
"""How long a bad version keeps its traffic, on the demo's real parts: quantiles over many runs.

With `--history` Prometheus starts with six hours of stable's past, made up of independent errors,
so that the daemon can measure how they cluster instead of assuming the worst.
"""

import argparse
import asyncio
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from controller.demo import binaries, manifests, simulated
from controller.demo.binaries import Binaries
from controller.demo.play import Scene, play
from controller.demo.report import Result
from controller.demo.stage import stage
from controller.demo.stories import RATE, STORIES
from tests.bench.figures import Line, quantile

PAST_SECONDS = 6 * 3600
PAST_STEP = 15
PAST_ERRORS = 0.002
"""Share of errors in the past: enough to count, and far from every limit."""

GOALS = {False: (2.2, 3.5), True: (1.2, 2.5)}
"""Goals for p50 and p99 of visible to zero in seconds, without and with history."""


class Silent:
    """No picture."""

    def draw(self, scene: Scene) -> None:
        """Show nothing."""


def exposition(now: float, source: random.Random) -> str:
    """Stable's counters over the past six hours, as OpenMetrics text."""
    service = (
        f"httproute-{manifests.NAMESPACE}-{manifests.APP}-gw-{manifests.NAMESPACE}-edge-ep-web-0-"
        f"{'0' * 20}-svc-{manifests.NAMESPACE}-{manifests.APP}-0@kubernetesgateway"
    )
    counts = {"200": 0, "500": 0}
    rows: dict[str, list[str]] = {code: [] for code in counts}
    for at in range(int(now) - PAST_SECONDS, int(now) - PAST_STEP, PAST_STEP):
        requests = round(RATE * PAST_STEP)
        # A binomial draw by its normal approximation; six thousand coins per row would take long.
        mean = requests * PAST_ERRORS
        errors = max(0, round(source.gauss(mean, math.sqrt(mean * (1 - PAST_ERRORS)))))
        counts["500"] += errors
        counts["200"] += requests - errors
        for code, count in counts.items():
            labels = f'code="{code}",instance="past",job="traefik",service="{service}"'
            rows[code].append(f"traefik_service_requests_total{{{labels}}} {count} {at}")
    lines = ["# TYPE traefik_service_requests counter", *rows["200"], *rows["500"], "# EOF"]
    return "\n".join(lines) + "\n"


async def write_past(programs: Binaries, folder: Path) -> None:
    """Turn the past into blocks with the tool that comes with Prometheus."""
    text = await asyncio.to_thread(_text_file, folder)
    process = await asyncio.create_subprocess_exec(
        str(programs.prometheus.with_name("promtool")),
        *("tsdb", "create-blocks-from", "openmetrics", str(text), str(folder)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        raise RuntimeError("promtool could not write the past")


def _text_file(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_name("past.txt")
    file.write_text(exposition(time.time(), random.Random(7)), encoding="utf-8")
    return file


async def once(name: str, programs: Binaries, *, history: bool) -> Result:
    """One run of a story on a stage of its own."""
    story = next(story for story in STORIES if story.name == name)
    with tempfile.TemporaryDirectory(prefix="switchgear-bench-") as folder:

        async def past(data: Path) -> None:
            await write_past(programs, data)

        ground = simulated.ground(programs, Path(folder), past=past if history else None)
        async with stage(
            ground, Path(folder), annotations=story.policy(1.0), rate=story.rate
        ) as scene:
            return await play(story, scene, Silent())


def lines(name: str, results: Sequence[Result], *, history: bool) -> list[Line]:
    """The figures of all runs of one story."""
    median, late = GOALS[history]
    table = {
        "visible to weight 0": ([r.visible_to_zero_seconds for r in results], (median, late)),
        "verdict to weight 0": ([r.verdict_to_zero_seconds for r in results], (None, 0.25)),
        "kill to weight 0 at the API": ([r.kill_to_zero_seconds for r in results], (None, 1.0)),
        "kill to the last answer at the proxy": (
            [r.kill_to_zero_proxy_seconds for r in results],
            (None, 5.0),
        ),
    }
    found: list[Line] = []
    for what, (values, goals) in table.items():
        known = [value for value in values if value is not None]
        if known:
            for part, goal in zip((0.5, 0.99), goals, strict=True):
                text = f"{name}: {what}, p{part * 100:g} of {len(known)}"
                found.append(Line(what=text, value=quantile(known, part), unit="s", goal=goal))
    bad = sum(result.bad_responses for result in results) / max(1, len(results))
    found.append(Line(what=f"{name}: bad answers seen by clients, mean", value=round(bad, 1)))
    return found


async def measure(name: str, runs: int, *, history: bool) -> list[Result]:
    """So many runs, each told as it ends."""
    programs = await asyncio.to_thread(binaries.find)
    results: list[Result] = []
    for number in range(1, runs + 1):
        result = await once(name, programs, history=history)
        results.append(result)
        sys.stdout.write(
            f"{number:>3}  {result.outcome}  visible {result.visible_to_zero_seconds}  "
            f"verdict {result.verdict_to_zero_seconds}  kill {result.kill_to_zero_seconds} "
            f"{result.kill_to_zero_proxy_seconds}  bad {result.bad_responses}  "
            f"{'; '.join(result.problems)}\n"
        )
        sys.stdout.flush()
    return results


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description="Breach to zero and kill to zero, on real parts.")
    parser.add_argument("--story", default="errors", choices=["errors", "slow", "kill"])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--history", action="store_true", help="with six hours of stable's past")
    told = parser.parse_args()
    results = asyncio.run(measure(told.story, told.runs, history=told.history))
    for line in lines(told.story, results, history=told.history):
        sys.stdout.write(f"{line.text()}\n")


if __name__ == "__main__":
    main()
