# SPDX-License-Identifier: Apache-2.0
"""Effects on routes: reading, comparing and setting, and weight 0 whatever happens.

A gateway writes the status of a route within milliseconds of every change, so its version moves by
itself. Effects toward safety therefore test what they mean (names, weights, lists of backends) and
read again when that has moved. A raise tests the version and is never repeated here: the kill latch
has to be read between the route and the write, and only the caller does that.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from controller.adapters.kube import paths
from controller.adapters.kube.calls import CALL_SECONDS, Calls, every
from controller.adapters.kube.routes import RouteSeen, parse_grpc_route, parse_http_route
from controller.adapters.routers import gateway_api
from controller.core.effects import SplitRef
from controller.core.errors import Conflict, Missing, SwitchgearError, Unavailable
from controller.core.observation import Backend, Route
from controller.core.values import WHOLE_BP, RouteKind, RouteRef, percent

Json: TypeAlias = dict[str, Any]
Build: TypeAlias = Callable[[Json], gateway_api.Ops]

TRIES: Final = 5
"""Reads and writes of one route before a conflict is handed up: other writers are gateways that
write a status once per change, so that even three in a row are rare."""

ZERO_TRIES: Final = 8
ZERO_WAIT: Final = 0.05
"""First wait before weight 0 is tried again; doubled each time, about 6 s in all."""


class Routing:
    """Routes of targets."""

    def __init__(self, calls: Calls) -> None:
        """Speak over `calls`."""
        self._calls = calls

    async def read(self, refs: Sequence[RouteRef], services: Sequence[str]) -> list[Route]:
        """Quorum reads, in parallel; routes that are gone are left out."""
        found = await asyncio.gather(*(self._read(ref, services) for ref in dict.fromkeys(refs)))
        return [route for route in found if route is not None]

    async def _read(self, ref: RouteRef, services: Sequence[str]) -> Route | None:
        try:
            body = await self._calls.read(paths.route(ref))
        except Missing:
            return None
        parse = parse_http_route if ref.kind == RouteKind.HTTP.value else parse_grpc_route
        try:
            seen = parse(body, None).value
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{ref} cannot be read") from error
        return _reduced(seen, services)

    async def raise_to(
        self, splits: Sequence[SplitRef], weight_bp: int, expected: Sequence[Route]
    ) -> str:
        """Compare-and-set on the versions in `expected`. Raises `Conflict` if one has moved."""
        by_ref = {route.ref: route for route in expected}
        patches: list[tuple[RouteRef, gateway_api.Ops]] = []
        for ref, own in _by_route(splits):
            route = by_ref.get(ref)
            if route is None or route.uid != own[0].uid:
                raise Conflict(f"{ref} was not read, or is another one by now")
            patches.append((ref, gateway_api.raise_to(route, own, weight_bp)))
        await every(self._calls.patch(paths.route(ref), ops) for ref, ops in patches)
        return f"weight {percent(weight_bp)} on {_names(splits)}"

    async def lower_to(self, splits: Sequence[SplitRef], weight_bp: int) -> str:
        """At most `weight_bp` for the canary: what is lower already stays."""
        await every(self._set(split, weight_bp, lower_only=True) for split in splits)
        return f"weight at most {percent(weight_bp)} on {_names(splits)}"

    async def gather(self, splits: Sequence[SplitRef]) -> str:
        """All requests to the canary pods, when a hand-back is undone."""
        await every(self._set(split, WHOLE_BP, lower_only=False) for split in splits)
        return f"all requests gathered on the canary of {_names(splits)}"

    async def _set(self, split: SplitRef, weight_bp: int, *, lower_only: bool) -> None:
        def build(live: Json) -> gateway_api.Ops:
            return gateway_api.set_live(live, split, weight_bp, lower_only=lower_only)

        await self._edit(split, build)

    async def attach(self, split: SplitRef) -> str:
        """Put the canary into the route at weight 0."""
        await self._edit(split, lambda live: gateway_api.attach(live, split))
        return f"{split.canary} stands in {split.route} at weight 0"

    async def detach(self, split: SplitRef, original: Sequence[Backend]) -> str:
        """Take it out, and give up what we own of it; a route that is gone needs nothing."""
        try:
            await self._edit(split, lambda live: gateway_api.detach(live, split, original))
        except Missing:
            return f"{split.route} is gone"
        with contextlib.suppress(SwitchgearError):
            # A courtesy to others: it is tried, and no way back waits for it.
            await self._edit(split, gateway_api.disown)
        return f"{split.canary} is out of {split.route}"

    async def _edit(self, split: SplitRef, build: Build) -> None:
        """Read, build, write; again if what the patch tests has moved."""
        path = paths.route(split.route)
        last: Conflict | None = None
        for _ in range(TRIES):
            live = await self._calls.get(path)
            if live["metadata"]["uid"] != split.uid:
                raise Conflict(f"{split.route} was deleted and created again")
            ops = build(live)
            if not ops:
                return
            try:
                await self._calls.patch(path, ops)
            except Conflict as error:
                last = error
            else:
                return
        raise Conflict(f"{split.route} kept moving") from last

    # --- weight 0 ------------------------------------------------------------------------------

    async def zero(self, splits: Sequence[SplitRef]) -> str:
        """Weight 0 in every route, all at once; the first failure is raised when all have tried."""
        await every(self._zero(ref, own) for ref, own in _by_route(splits))
        return f"weight 0 on {_names(splits)}"

    async def _zero(self, ref: RouteRef, splits: Sequence[SplitRef]) -> None:
        """From memory first; then from the live route, until it is done or time is up."""
        ops = [op for split in splits for op in gateway_api.zero(split, split.seen)]
        wait = ZERO_WAIT
        for attempt in range(1, ZERO_TRIES + 1):
            try:
                if not ops:
                    ops = await self._zero_live(ref, splits)
                if ops:
                    await self._calls.patch(paths.route(ref), ops)
            except Missing:
                return
            except (Conflict, Unavailable) as error:
                if attempt == ZERO_TRIES:
                    raise
                if isinstance(error, Conflict):
                    # An index has moved: the next try reads the route.
                    ops = []
                if attempt > 1:
                    await self._calls.clock.sleep(wait)
                    wait *= 2
            else:
                return

    async def _zero_live(self, ref: RouteRef, splits: Sequence[SplitRef]) -> gateway_api.Ops:
        """The patch for what stands there now; empty if no canary does."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                live = await self._calls.get(paths.route(ref))
        except TimeoutError as error:
            raise Unavailable(f"{ref}: no answer within {CALL_SECONDS:g} s") from error
        entries, notes = gateway_api.backends(live), gateway_api.note_of(live)
        return [op for split in splits for op in gateway_api.zero(split, entries, notes)]


def _by_route(splits: Sequence[SplitRef]) -> list[tuple[RouteRef, list[SplitRef]]]:
    """Splits of the same route go out as one patch."""
    found: dict[RouteRef, list[SplitRef]] = {}
    for split in splits:
        found.setdefault(split.route, []).append(split)
    return list(found.items())


def _names(splits: Sequence[SplitRef]) -> str:
    return ", ".join(f"{split.route} ({split.service})" for split in splits)


def _reduced(seen: RouteSeen, services: Sequence[str]) -> Route:
    """The route's rules to these Services; with none left, the route without rules.

    A caller that raises has to see that a rule of its own has gone.
    """
    for namespace in sorted({entry.namespace for rule in seen.rules for entry in rule}):
        route = seen.reduced(services, namespace)
        if route is not None:
            return route
    return Route(
        ref=seen.ref,
        uid=seen.uid,
        version=seen.version,
        generation=seen.generation,
        backends=(),
        accepted=seen.accepted,
        message=seen.message,
        controllers=seen.controllers,
        annotations=seen.annotations,
        original=seen.original,
    )
