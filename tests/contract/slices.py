# SPDX-License-Identifier: Apache-2.0
"""How contract tests look at the EndpointSlices of a Service."""

from __future__ import annotations

from typing import Any

from tests.support.world import World

SERVICE = "kubernetes.io/service-name"
Object = dict[str, Any]


async def of(world: World, service: str = "web") -> Object:
    """The first slice of a Service; empty: it has none."""
    answer = await world.get("endpointslices", labelSelector=f"{SERVICE}={service}")
    found = answer.json["items"]
    return dict(found[0]) if found else {}


async def ready(world: World, count: int, *, ready: bool = True) -> list[Object]:
    """Wait until the slice has so many endpoints, all of them ready or none, and return them."""
    found: list[Object] = []

    async def look() -> bool:
        found[:] = (await of(world)).get("endpoints") or []
        return [item["conditions"]["ready"] for item in found] == [ready] * count

    await world.eventually(look, what=f"{count} endpoints, seen {found}")
    return found


async def told(world: World, since: str) -> list[tuple[int, dict[str, Object]]]:
    """What was told of the slices since a version: each version, and the conditions by pod."""
    frames = await world.watched(
        world.path("endpointslices"), resourceVersion=since, labelSelector=f"{SERVICE}=web"
    )
    return [
        (
            int(frame["object"]["metadata"]["resourceVersion"]),
            {
                endpoint["targetRef"]["name"]: endpoint["conditions"]
                for endpoint in frame["object"].get("endpoints") or []
            },
        )
        for frame in frames
    ]
