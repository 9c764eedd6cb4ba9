# SPDX-License-Identifier: Apache-2.0
"""Which of several replicas acts: one holds the lease and leads, the others stand by.

The order of a term: take the lease, claim an epoch, take every run up, tick. Whoever leads renews
well before the lease can run out for the others, counts from before each request was sent, and
stops by its own clock when that has not worked. Whoever stands by takes the lease when it has not
changed for its whole duration by the clock of the one who looks; no time stamp of another machine
counts. None of this fences: a process that was stopped may believe for a moment that it leads. What
it writes then fails on the epoch (`engine.claims`).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from controller.core import errors
from controller.engine.meters import Meters
from controller.ports.clock import Clock
from controller.ports.lease import Lease, Tenure

LEASE_SECONDS: Final = 10.0
"""With a second between looks, a leader that died is replaced within 12 s."""

RENEWED_WITHIN: Final = 0.7
"""Share of the duration after which a leader that could not renew has stopped: the rest is for
clocks that run at different speeds and for ticks that are being cancelled."""

TAKEN_WITHIN: Final = 0.4
"""Share of the duration for looking at the lease and taking it, however slow the answers are."""

BEATS: Final = 5
"""Renewals per duration: three may fail before the lease is lost."""

LOOKS: Final = 10
"""Looks at the lease per duration of those who stand by: a released one is taken in a second."""

LONGEST_SECONDS: Final = 60.0
"""What a lease says of its own duration is believed up to here: anybody might have written it."""

END_SECONDS: Final = 10.0
"""For the end of a term. It takes milliseconds, but for a process that was stopped and wakes up on
a machine where everybody wants to run."""

RELEASE_SECONDS: Final = 1.0
"""For giving the lease back; after that it runs out by itself."""

log = structlog.get_logger(__name__)


async def anybody() -> str:
    """Every replica may lead."""
    return ""


class Leader:
    """Competes for the lease, and runs terms."""

    def __init__(
        self,
        *,
        lease: Lease,
        clock: Clock,
        term: Callable[[], Awaitable[None]],
        meters: Meters,
        seconds: float = LEASE_SECONDS,
        barred: Callable[[], Awaitable[str]] = anybody,
    ) -> None:
        """`term` acts until it is cancelled; `barred` says why this process must not lead."""
        self._lease = lease
        self._clock = clock
        self._term = term
        self._meters = meters
        self._seconds = seconds
        self._barred = barred
        self._call = seconds / BEATS
        self._until = float("-inf")
        self._ending = False
        self._told = ""
        self.seen: Tenure | None = None
        """The lease as last seen."""

    @property
    def leading(self) -> bool:
        """Whether the lease is ours, cannot have run out for the others, and is not given back."""
        return self.ours and not self._ending

    @property
    def ours(self) -> bool:
        """Whether nobody else can lead yet: at the end of a term what was begun may be finished."""
        return self._clock.monotonic() < self._until

    async def run(self) -> None:
        """Stand by and lead in turns until cancelled; then the lease is given back.

        A term that ends by itself ends all of it.
        """
        while True:
            await self._lead(await self._stand_by())

    # --- standing by ---------------------------------------------------------------------------

    async def _stand_by(self) -> Tenure:
        """Returns once the lease is ours."""
        version, since = "", self._clock.monotonic()
        while True:
            began = self._clock.monotonic()
            try:
                async with asyncio.timeout(self._seconds * TAKEN_WITHIN):
                    self.seen = await self._lease.read()
                    if self.seen is not None and self.seen.version != version:
                        version, since = self.seen.version, self._clock.monotonic()
                    if self._free(self.seen, began - since) and await self._may():
                        began = self._clock.monotonic()
                        held = await self._lease.hold(self.seen, self._clock.stamp())
                        self._until = began + self._seconds * RENEWED_WITHIN
                        self.seen = held
                        return held
            except TimeoutError:
                self._say("the lease was not read: no answer in time")
            except errors.Conflict:
                pass  # Another one was faster; the next look says who.
            except errors.SwitchgearError as error:
                self._say(f"the lease was not read: {error.diagnostics()}")
            # Spread out, so that replicas that were started together do not stay in step.
            pause = self._seconds / LOOKS * (0.7 + 0.3 * self._clock.jitter())
            await self._clock.sleep(pause)

    def _free(self, seen: Tenure | None, silent: float) -> bool:
        if seen is None or seen.holder in {"", self._lease.identity}:
            return True
        return silent >= max(self._seconds, min(seen.seconds, LONGEST_SECONDS))

    async def _may(self) -> bool:
        why = await self._barred()
        if why:
            self._say(f"does not lead: {why}")
        return not why

    def _say(self, words: str) -> None:
        """What is so at every look is said once."""
        if words != self._told:
            log.info(words)
        self._told = words

    # --- leading -------------------------------------------------------------------------------

    async def _lead(self, held: Tenure) -> None:
        self._told = ""
        self._ending = False
        log.info("leads", identity=self._lease.identity)
        self._meters.leads(leading=True)
        self.seen = held
        term = asyncio.ensure_future(self._term())
        why = "stopped"
        try:
            why = await self._renew(term)
        finally:
            self._ending = True
            self._meters.leads(leading=False)
            log.warning("leads no more", why=why)
            await self._end(term)

    async def _renew(self, term: asyncio.Future[None]) -> str:
        """Renew until that fails; returns why. Raises what ended the term."""
        marks: set[str] = set()
        pause = self._seconds / BEATS
        while True:
            left = self._until - self._clock.monotonic()
            await asyncio.wait({term}, timeout=max(0.0, min(pause, left)))
            if term.done():
                term.result()
                return "the term ended"
            began = self._clock.monotonic()
            if began >= self._until:
                return "the lease could not be renewed in time"
            pause = self._seconds / BEATS
            try:
                async with asyncio.timeout(min(self._call, self._until - began)):
                    why = await self._barred()
                    if why:
                        return why
                    self.seen = await self._again(marks)
            except (errors.Conflict, errors.Missing) as error:
                self.seen, self._until = None, float("-inf")
                return error.message
            except (errors.SwitchgearError, TimeoutError):
                pause = self._seconds / LOOKS
            else:
                marks.clear()
                self._until = began + self._seconds * RENEWED_WITHIN

    async def _again(self, marks: set[str]) -> Tenure:
        """Renew once. `marks` are those of the tries whose answers never came."""
        assert self.seen is not None  # noqa: S101  # `_lead` set it.
        seen, stamp = self.seen, self._clock.stamp()
        known = {seen.mark, *marks}
        marks.add(self._lease.marked(seen, stamp))
        try:
            return await self._lease.hold(seen, stamp)
        except errors.Conflict as conflict:
            live = await self._lease.read()
            # A mark that we know is a write of ours, perhaps with a label that somebody has put
            # on the object; any other one is another hand's.
            if live is None or live.mark not in known:
                message = "the lease was taken or changed by another hand"
                raise errors.Conflict(message) from conflict
            return await self._lease.hold(live, stamp)

    async def _end(self, term: asyncio.Future[None]) -> None:
        """Nothing of the term goes on when the lease is given back."""
        term.cancel()
        await asyncio.wait({term}, timeout=END_SECONDS)
        if not term.done():
            # The lease is left to run out, and no second term may begin beside this one.
            message = f"a term has not ended within {END_SECONDS:g} s"
            raise errors.InvariantBroken(message)
        self._until = float("-inf")
        seen, self.seen = self.seen, None
        if seen is None:
            return
        with contextlib.suppress(errors.SwitchgearError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._release(seen)

    async def _release(self, seen: Tenure) -> None:
        try:
            await self._lease.release(seen)
        except errors.Conflict:
            # A renewal whose answer nobody waited for may have come after what we saw.
            live = await self._lease.read()
            if live is not None and live.holder == self._lease.identity:
                await self._lease.release(live)
