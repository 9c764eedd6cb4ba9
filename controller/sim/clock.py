# SPDX-License-Identifier: Apache-2.0
"""Virtual time: an event loop that never waits, and the wall clock of the simulated world.

Whenever nothing is ready to run, the loop moves its clock to the next timer.  Ten minutes of a
rollout then cost only what is computed in them, and two runs of the same seed are identical.
Nothing outside may take part: there are no sockets, and executor jobs run in place.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import random
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

_T = TypeVar("_T")

EPOCH = datetime(2026, 1, 5, 9, 0, 0, tzinfo=UTC)
"""The wall-clock time at which every virtual world begins: a Monday morning."""

# The loop's clock does not start at zero: code that mistakes a monotonic reading for a duration
# since the start, or treats 0.0 as "never", should fail here and not in production.
MONOTONIC_START = 1_000.0

# A task that spins without awaiting a timer makes no virtual time pass.  Honest bursts (a thousand
# pods reported in one instant) stay two orders of magnitude below this.
MAX_PASSES_PER_INSTANT = 200_000


class DeadlockError(RuntimeError):
    """Nothing is ready and no timer is set, so that the awaited result can never come."""


class LivelockError(RuntimeError):
    """Tasks keep each other busy without virtual time moving."""


class TimeLimitError(RuntimeError):
    """The virtual time granted to :func:`run` is over."""


class RealWorldError(RuntimeError):
    """Something tried to reach a real socket, pipe or process from inside virtual time."""


class _Jump:
    """Stands where a selector stands in a real loop; instead of waiting it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._passes = 0

    def select(self, timeout: float | None) -> list[object]:
        """Advance the clock by ``timeout`` seconds and report that no I/O happened."""
        if timeout is None:
            raise DeadlockError(self._loop.describe_stall())
        if timeout > 0:
            self._passes = 0
            self._loop.advance(timeout)
        else:
            self._passes += 1
            if self._passes > MAX_PASSES_PER_INSTANT:
                raise LivelockError(
                    f"time stands at {self._loop.time():.6f} after {self._passes} passes"
                )
        return []

    def close(self) -> None:
        """Nothing is held."""


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """An asyncio event loop in virtual time.

    Timers are exact to a nanosecond.  ``run_in_executor`` calls its function at once, in the loop's
    own thread, because a real thread would bring real time and another order of events.
    """

    def __init__(self, *, limit: float | None = None) -> None:
        """Start at :data:`MONOTONIC_START`; ``limit`` is the most virtual seconds to grant."""
        super().__init__()
        self._now = MONOTONIC_START
        self._end = None if limit is None else MONOTONIC_START + limit
        self._clock_resolution = 1e-9
        self._selector = _Jump(self)

    def time(self) -> float:
        """Virtual monotonic seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock; raises :class:`TimeLimitError` when that would pass the limit."""
        self._now += seconds
        if self._end is not None and self._now > self._end:
            raise TimeLimitError(f"not finished within the granted virtual time ({self._now:.3f})")

    def lift_limit(self) -> None:
        """Grant any time, so that cancelled tasks may clean up."""
        self._end = None

    def describe_stall(self) -> str:
        """Say which tasks wait for something that nobody will deliver."""
        names = sorted(
            f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})"
            for task in asyncio.all_tasks(self)
        )
        return "nothing is scheduled; waiting for ever: " + (", ".join(names) or "no task at all")

    def run_in_executor(  # type: ignore[override]
        self, _executor: object, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Run ``func`` here and now; its result or exception is in the returned future."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the future carries whatever the job raised
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[object]) -> None:
        """There is no I/O, hence there are no events."""

    def _write_to_self(self) -> None:
        """The loop never sleeps, so that nobody needs to wake it."""

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise RealWorldError("real I/O was asked for inside virtual time")

    # Every door of a real loop to the outside is closed with the same answer.
    create_connection = _refuse
    create_server = _refuse
    create_datagram_endpoint = _refuse
    create_unix_connection = _refuse
    create_unix_server = _refuse
    subprocess_exec = _refuse
    subprocess_shell = _refuse
    connect_read_pipe = _refuse
    connect_write_pipe = _refuse
    add_reader = _refuse
    add_writer = _refuse
    sock_connect = _refuse
    sock_accept = _refuse
    sock_recv = _refuse
    sock_sendall = _refuse
    getaddrinfo = _refuse


def run(main: Coroutine[Any, Any, _T], seed: int = 0, *, limit: float | None = None) -> _T:
    """Run ``main`` to its end in virtual time and return its result.

    ``seed`` sets the process-wide random generator, so that jitter is the same in every run, and
    restores it afterwards.  ``limit`` bounds the virtual seconds.  Raises whatever ``main`` raises,
    :class:`DeadlockError`, :class:`LivelockError` or :class:`TimeLimitError`.
    """
    loop = VirtualLoop(limit=limit)
    saved = random.getstate()
    random.seed(seed)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_rest(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            random.setstate(saved)


def _cancel_rest(loop: VirtualLoop) -> None:
    """Cancel what is still running, in the order of creation, and let it end."""
    loop.lift_limit()
    # Sorting by name would put Task-10 before Task-9.
    rest = sorted(asyncio.all_tasks(loop), key=lambda t: (len(t.get_name()), t.get_name()))
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


class WallClock:
    """What the world's wall clocks show: virtual under :class:`VirtualLoop`, real elsewhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Bind to ``loop``, or to the running one."""
        self._loop = loop or asyncio.get_running_loop()
        self._virtual = isinstance(self._loop, VirtualLoop)
        self.skew = 0.0
        """Seconds by which this clock is wrong; a fault that tests may set at any time."""

    def timestamp(self) -> float:
        """Seconds since 1970, UTC."""
        if self._virtual:
            return EPOCH.timestamp() + self._loop.time() - MONOTONIC_START + self.skew
        return time.time() + self.skew

    def now(self) -> datetime:
        """The time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.timestamp(), UTC)

    def rfc3339(self) -> str:
        """The time as Kubernetes writes ``metav1.Time``: whole seconds, ``Z``."""
        return rfc3339(self.now())

    def rfc3339_micro(self) -> str:
        """The time as Kubernetes writes ``metav1.MicroTime``: six digits of the second."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339(moment: datetime) -> str:
    """Format an aware datetime in whole seconds, truncated as the API server does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> float:
    """Seconds since 1970 of a Kubernetes timestamp, with or without fractions.

    Raises ValueError if ``text`` is not one.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"timestamp without a time zone: {text!r}")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
