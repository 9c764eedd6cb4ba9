# SPDX-License-Identifier: Apache-2.0
"""What a story stands on, whoever provides it: the simulation on this machine, or a real cluster.

Playing, measuring and reporting know no more of the place than this.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from controller.demo.api import Api
from controller.demo.manifests import SYSTEM, Team
from controller.demo.process import Child
from controller.demo.signals import TRAEFIK, Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long things take at most, in seconds."""

    serving: float = 20.0
    """From creating the objects to the first answer through the gateway."""
    metrics: float = 20.0
    """From the first answers to the first samples that count them."""
    story: float = 80.0
    """A story that has not ended by then is told as it stands. The longest takes 46 s on two cores
    that do nothing else."""
    per_scrape: float = 0.0
    """More of it for each second between two scrapes."""


async def _unknown() -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """An API server, a gateway that is scraped, and a namespace for the team."""

    api: Api
    team: Team
    address: str
    """Where clients reach the gateway, `host:port`."""
    prometheus: str
    """URL."""
    daemon: tuple[str, ...]
    """Options by which the daemon reaches the same API server."""
    system: str = SYSTEM
    """Namespace of the daemon's documents."""
    signals: Signals = TRAEFIK
    prometheus_ahead: float = 0.0
    """Seconds by which Prometheus' clock is ahead of ours."""
    pods_reachable: bool = True
    """Whether clients can go past the gateway."""
    patience: Patience = field(default_factory=Patience)
    children: Mapping[str, Child] = field(default_factory=dict)
    why: Callable[[], Awaitable[str]] = _unknown
    """What the API server says of an application that does not answer."""


Opening = AbstractAsyncContextManager[Ground]
"""Makes the ground, and takes away all that it has made."""
