# SPDX-License-Identifier: Apache-2.0
"""The virtual clock must be exact, quick, the same every time, and loud when it cannot go on."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket

import pytest

from controller.sim import clock


def test_a_day_passes_at_once_and_timers_fire_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        seen: list[tuple[str, float]] = []

        async def wait(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, round(loop.time() - start, 6)))

        await asyncio.gather(wait("day", 86_400), wait("blink", 0.001), wait("hour", 3_600))
        return seen

    assert clock.run(main()) == [("blink", 0.001), ("hour", 3_600.0), ("day", 86_400.0)]


def test_waiting_for_nothing_is_named_a_deadlock() -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(clock.DeadlockError, match="never"):
        clock.run(never())


@pytest.mark.slow
def test_spinning_without_time_is_named_a_livelock() -> None:
    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(clock.LivelockError):
        clock.run(spin())


def test_the_limit_of_virtual_time_holds_and_the_rest_is_cancelled() -> None:
    ended: list[str] = []

    async def main() -> None:
        try:
            for _ in itertools.count():
                await asyncio.sleep(1)
        finally:
            ended.append("cancelled")

    with pytest.raises(clock.TimeLimitError):
        clock.run(main(), limit=60)
    assert ended == ["cancelled"]


def test_real_sockets_are_refused() -> None:
    async def main() -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    with pytest.raises(clock.RealWorldError):
        clock.run(main())

    async def raw() -> None:
        with socket.socket() as sock:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", 9))

    with pytest.raises(clock.RealWorldError):
        clock.run(raw())


def test_random_numbers_follow_the_seed_and_are_given_back() -> None:
    async def draw() -> float:
        return random.random()

    random.seed(99)
    expected = random.random()
    random.seed(99)
    assert clock.run(draw(), 5) == clock.run(draw(), 5) != clock.run(draw(), 6)
    assert random.random() == expected


def test_executor_jobs_run_in_place() -> None:
    async def main() -> int:
        return await asyncio.to_thread(lambda: 7 * 6)

    assert clock.run(main()) == 42


def test_wall_clock_and_timestamps() -> None:
    async def main() -> tuple[str, str, str]:
        wall = clock.WallClock()
        first = wall.rfc3339()
        await asyncio.sleep(90.25)
        micro = wall.rfc3339_micro()
        wall.skew = -90.25
        return first, micro, wall.rfc3339()

    first, micro, back = clock.run(main())
    assert (first, micro) == ("2026-01-05T09:00:00Z", "2026-01-05T09:01:30.250000Z")
    assert back == first
    assert clock.parse_rfc3339(micro) - clock.parse_rfc3339(first) == 90.25
    with pytest.raises(ValueError, match="time zone"):
        clock.parse_rfc3339("2026-01-05T09:00:00")
