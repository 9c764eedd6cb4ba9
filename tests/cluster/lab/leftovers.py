# SPDX-License-Identifier: Apache-2.0
"""What a controller leaves in a namespace, and whoever looks for controllers in all of them finds.

`switchgear kill --all` names every Lease and every run document of ours, wherever it is: of a
sidecar that a test left behind an hour ago as well.
"""

from typing import Final

from controller.core.values import MANAGED_BY, MANAGED_BY_LABEL
from tests.cluster.lab.application import until
from tests.support.api import Port
from tests.support.world import REAL, World

KINDS: Final = ("leases", "configmaps")
OURS: Final = {"labelSelector": f"{MANAGED_BY_LABEL}={MANAGED_BY}"}

ENDED_SECONDS: Final = 90.0
"""Pods that drain take their time before they end."""


async def gone(port: Port, namespace: str) -> None:
    """Take away everything of ours in a namespace in which nothing is to work any more."""
    world = World(kind=REAL, port=port, namespace=namespace)

    async def ended() -> bool:
        return not await world.names("pods")

    async def none() -> bool:
        for plural in KINDS:
            await world.send("DELETE", world.path(plural), **OURS)
        return not [name for plural in KINDS for name in await world.names(plural, **OURS)]

    if await world.names("leases", **OURS):
        # Whoever holds one writes it again, until its pod is gone.
        await until(ended, ENDED_SECONDS, f"the pods of {namespace} to end")
    await until(none, 20.0, f"leases and documents of {namespace} to go")
