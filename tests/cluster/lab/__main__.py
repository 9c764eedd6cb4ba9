# SPDX-License-Identifier: Apache-2.0
"""The lab by hand, and as tests start it.

    python -m tests.cluster.lab build          everything that has to be built or fetched, once
    python -m tests.cluster.lab up FOLDER      a cluster, until Ctrl-C or the end of standard input,
                                               if that is a terminal or a pipe

`up` makes a network of its own unless it is told `--here`, prints one line of JSON that says where
everything is, and removes nothing: the logs of all parts stay in FOLDER.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from controller.demo.errors import DemoError
from tests.cluster.lab import build, cluster, network
from tests.cluster.lab.toolchain import Unavailable

MAX_WORDS = 8
"""Nobody sends more than one and waits for the answer."""


async def _up(folder: Path, emulates: str) -> None:
    programs = build.programs(make=False)
    # From now on a signal ends it in order, at the latest when everything has started.
    lines = _listening()
    async with cluster.up(programs, folder, emulates) as found:
        _say(found.about)
        while word := (await lines.get()).strip():
            # Most tests need one data plane only; the second one is started when it is asked for.
            if word == "envoy":
                _say({"envoy": await found.envoy()})


def _say(found: object) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def _listening() -> asyncio.Queue[str]:
    """The lines of standard input, and an empty one when it ends or a signal asks to.

    What nobody can be waited for at (`/dev/null`, a file, nothing at all) says nothing and has no
    end.
    """
    lines: asyncio.Queue[str] = asyncio.Queue(MAX_WORDS)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lines.put_nowait, "")

    def heard() -> None:
        line = sys.stdin.readline()
        if not line:
            # The end would be heard again and again while everything is stopped.
            loop.remove_reader(sys.stdin.fileno())
        lines.put_nowait(line)

    if sys.stdin is not None:
        with contextlib.suppress(PermissionError):
            loop.add_reader(sys.stdin.fileno(), heard)
    return lines


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description="A Kubernetes for tests, without containers.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build and fetch everything")
    up = commands.add_parser("up", help="a cluster until standard input ends")
    up.add_argument("folder", type=Path)
    up.add_argument("--emulates", default="", help="an older minor version of Kubernetes: 1.34")
    up.add_argument("--here", action="store_true", help="in the network in which this runs")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            build.programs(make=True)
        else:
            if not arguments.here:
                network.enter()
            asyncio.run(_up(arguments.folder.resolve(), arguments.emulates))
    except (Unavailable, DemoError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
