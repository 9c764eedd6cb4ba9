# SPDX-License-Identifier: Apache-2.0
"""The simulated cluster as a process of its own: API server over HTTP, controllers, pods.

It is started by the demo as `python -m controller.demo.cluster --logs FOLDER`, says in one line of
JSON where it listens, and ends on SIGTERM or when its standard input does. Endpoints may be
loopback addresses here, which a real API server refuses: that is the one deviation of the demo.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from controller.demo.runtime import Network, ProcessRuntime
from controller.sim.apiserver.serve import serving
from controller.sim.apiserver.server import ApiServer
from controller.sim.apiserver.store import Store
from controller.sim.world import controllers

NAMESPACES = ("default", "kube-system")


async def run(logs: Path) -> None:
    """Serve until told to end."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_reader(sys.stdin.fileno(), _listen, loop, over)
    network = Network()
    store = Store(lambda: datetime.now(UTC), namespaces=NAMESPACES)
    api = ApiServer(store, allow_loopback_endpoints=True)
    runtime = ProcessRuntime(network, logs)
    try:
        async with controllers(store, runtime=runtime), serving(api) as url:
            sys.stdout.write(json.dumps({"url": url}) + "\n")
            sys.stdout.flush()
            await over.wait()
    finally:
        network.release()


def _listen(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
    """What the demo writes does not matter, only that it holds the other end open."""
    if not os.read(sys.stdin.fileno(), 64):
        loop.remove_reader(sys.stdin.fileno())
        over.set()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description="A simulated cluster with real pods.")
    parser.add_argument("--logs", type=Path, required=True, help="folder for the pods' logs")
    asyncio.run(run(parser.parse_args().logs))


if __name__ == "__main__":
    main()
