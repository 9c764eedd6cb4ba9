# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench [part ...]`: the daemon's figures, beside their goals and the peers'.

Without arguments every part runs in full, which takes two hours; `--short` takes a quarter of one.
docs/figures.md says how each figure is made and what was measured last.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from tests.bench import demo_errors, lab_rig, lab_scale, lab_stories, scale
from tests.bench.figures import Line
from tests.cluster.lab.toolchain import Unavailable

Part = Callable[[argparse.Namespace], Coroutine[Any, Any, list[Line]]]


async def _scale(told: argparse.Namespace) -> list[Line]:
    targets, active = told.targets or 100, told.active or 20
    size = scale.Size(targets=targets, runs=active, window=told.window, scrape=told.scrape)
    return await scale.main(size)


def _story(name: str, *, history: bool = False) -> Part:
    async def part(told: argparse.Namespace) -> list[Line]:
        results = await demo_errors.measure(name, told.runs or 30, history=history)
        return demo_errors.lines(name, results, history=history)

    return part


async def _cluster(told: argparse.Namespace) -> list[Line]:
    targets, active = told.targets or 1000, told.active or 100
    size = lab_scale.Size(targets=targets, runs=active, window=told.window, scrape=told.scrape)
    # This process stays in the lab's network: what comes after needs a lab, or nothing outside.
    with lab_rig.laboratory() as lab:
        async with lab_rig.shipped(lab) as gate:
            return await lab_scale.measure(gate, size)


async def _gateways(told: argparse.Namespace) -> list[Line]:
    with lab_rig.laboratory() as lab:
        async with lab_rig.shipped(lab) as gate:
            return await lab_stories.measure(gate, told.runs or 100)


PARTS: Final[dict[str, tuple[str, Part]]] = {
    "scale": ("cost by targets and runs, many bad or killed at once (simulated cluster)", _scale),
    "reaction": ("breach to weight 0 on the demo's real parts, no history", _story("errors")),
    "history": ("the same when stable has a past", _story("errors", history=True)),
    "kill": ("kill to weight 0 and to the last answer, on the demo's real parts", _story("kill")),
    "cluster": ("cost, many bad or killed at once, on a real control plane", _cluster),
    "gateways": ("breach and kill there, through real gateways", _gateways),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Figures of the daemon: "
        + "; ".join(f"{name}: {what}" for name, (what, _) in PARTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--short", action="store_true", help="2 runs, 100 targets, 20 in progress")
    parser.add_argument("--runs", type=int, help="of each story (30; `gateways` 100)")
    parser.add_argument("--targets", type=int, help="of `scale` (100) and `cluster` (1000)")
    parser.add_argument("--active", type=int, help="runs in progress in them (20 and 100)")
    parser.add_argument(
        "--window", type=float, default=50.0, help="seconds of each count, in multiples of 50"
    )
    parser.add_argument("--scrape", type=float, default=1.0, help="scrape interval in them")
    told = parser.parse_args()
    unknown = [name for name in told.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if told.short:
        told.runs, told.targets = told.runs or 2, told.targets or 100
        told.active = told.active or 20
    return told


def main() -> None:
    """Run the parts one after the other and print each one's figures as soon as they are there."""
    told = _arguments()
    began = time.monotonic()
    # In the order of the table: the last two take this process into networks of their own.
    for name in [name for name in PARTS if name in (told.parts or PARTS)]:
        what, part = PARTS[name]
        sys.stdout.write(f"\n{name}: {what}\n")
        sys.stdout.flush()
        try:
            lines = asyncio.run(part(told))
        except Unavailable as error:
            # Only the last two parts need one, and what was not measured is no success.
            sys.exit(f"not measured for want of a lab, see tests/cluster/README.md: {error}")
        load = os.getloadavg()[1]
        sys.stdout.write("".join(f"  {line.text()}\n" for line in lines))
        sys.stdout.write(f"  ({os.cpu_count()} cores, load over 5 minutes {load:.1f})\n")
        sys.stdout.flush()
    sys.stdout.write(f"\ntook {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
