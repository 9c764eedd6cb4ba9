# SPDX-License-Identifier: Apache-2.0
"""The lab by hand, and as tests start it.

    python -m tests.cluster.lab build          everything that has to be built or fetched, once
    python -m tests.cluster.lab up FOLDER      a cluster, until Ctrl-C or the end of standard input

`up` makes a network of its own unless it is told `--here`, prints one line of JSON that says where
everything is, and removes nothing: the logs of all parts stay in FOLDER.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from controller.demo.errors import DemoError
from tests.cluster.lab import build, cluster, network
from tests.cluster.lab.toolchain import Unavailable


async def _up(folder: Path) -> None:
    programs = build.programs(make=False)
    async with cluster.up(programs, folder) as found:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
        await _asked_to_end()


async def _asked_to_end() -> None:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.set)
    if not sys.stdin.isatty():
        loop.add_reader(sys.stdin.fileno(), _when_input_ends, end)
    await end.wait()


def _when_input_ends(end: asyncio.Event) -> None:
    if not os.read(0, 64):
        end.set()


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description="A Kubernetes for tests, without containers.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build and fetch everything")
    up = commands.add_parser("up", help="a cluster until standard input ends")
    up.add_argument("folder", type=Path)
    up.add_argument("--here", action="store_true", help="in the network in which this runs")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            build.programs(make=True)
        else:
            if not arguments.here:
                network.enter()
            asyncio.run(_up(arguments.folder.resolve()))
    except (Unavailable, DemoError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
