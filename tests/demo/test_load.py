# SPDX-License-Identifier: Apache-2.0
"""The clients against a server of the test's own: what is counted is what happened."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from controller.demo.answer import parse
from controller.demo.counts import Seen
from controller.demo.direct import Direct, addresses
from controller.demo.load import MAX_UNDER_WAY, Load

Handler = Callable[[int], bytes | None]
"""From the number of a request to its answer; None closes the connection instead."""

ENOUGH_SECONDS = 10.0


def answer(status: int, version: str = "", body: str = "x") -> bytes:
    named = f"X-Version: {version}\r\n" if version else ""
    return f"HTTP/1.1 {status} X\r\n{named}Content-Length: {len(body)}\r\n\r\n{body}".encode()


@contextlib.asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[int]:
    """A keep-alive server on a free port; yields the port."""
    number = 0
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                number += 1
                found = handler(number)
                writer.write(found or b"")
                if found is None or b"Connection: close" in head:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()


async def collect(
    load: Load, until: Callable[[Seen], bool], *, through_gateway: bool = True
) -> Seen:
    """Run the load until what was seen is enough."""
    seen = Seen()
    task = asyncio.ensure_future(load.run() if through_gateway else asyncio.sleep(ENOUGH_SECONDS))
    try:
        async with asyncio.timeout(ENOUGH_SECONDS):
            while not until(seen):
                await asyncio.sleep(0.02)
                seen.add(load.cut())
    finally:
        task.cancel()
    return seen


def load_on(port: int, rate: float = 400.0) -> Load:
    return Load(host="127.0.0.1", port=port, rate=rate, slow_seconds=0.3)


def answers(seen: Seen) -> int:
    return sum(track.total for slot in seen.slots for track in slot.tracks.values())


async def test_answers_count_by_version_and_status() -> None:
    """Every fourth answer is v2's, and all of v2's are bad."""

    def handler(number: int) -> bytes:
        return answer(200, "v1") if number % 4 else answer(500, "v2")

    async with server(handler) as port:
        seen = await collect(load_on(port), lambda seen: answers(seen) >= 100)
    v1 = [slot.tracks["v1"] for slot in seen.slots if "v1" in slot.tracks]
    v2 = [slot.tracks["v2"] for slot in seen.slots if "v2" in slot.tracks]
    assert sum(track.bad for track in v1) == 0
    assert sum(track.good for track in v2) == 0
    assert sum(track.bad for track in v2) == pytest.approx(answers(seen) / 4, abs=2)
    assert seen.bad() == sum(track.bad for track in v2)
    assert seen.failed == 0


async def test_an_answer_without_a_version_is_a_failure_of_the_gateway() -> None:
    async with server(lambda number: answer(503) if number % 2 else answer(500, "v1")) as port:
        seen = await collect(load_on(port), lambda seen: seen.failed >= 20 and answers(seen) >= 20)
    assert set(seen.failures()) == {"gateway 503"}
    assert seen.bad() == answers(seen)


async def test_a_connection_that_ends_under_a_request_is_a_failure() -> None:
    async with server(lambda number: None if number % 5 == 0 else answer(200, "v1")) as port:
        seen = await collect(load_on(port), lambda seen: seen.failed >= 5)
    assert set(seen.failures()) <= {"closed", "reset"}
    assert answers(seen) > seen.failed


async def test_a_closed_port_is_a_failure_and_not_an_end() -> None:
    async with server(lambda _: None) as port:
        pass
    seen = await collect(load_on(port), lambda seen: seen.failed >= 20)
    assert set(seen.failures()) == {"connect"}


async def test_a_gateway_that_hangs_meets_a_bound() -> None:
    def never(_number: int) -> bytes:
        return b""

    async with server(never) as port:
        load = load_on(port, rate=5000.0)

        def full(seen: Seen) -> bool:
            # After the bound is met, so many requests were due that it must have held.
            skipped = sum(slot.skipped for slot in seen.slots)
            return load.under_way >= MAX_UNDER_WAY and skipped > 2 * MAX_UNDER_WAY

        seen = await collect(load, full)
    assert load.under_way == MAX_UNDER_WAY
    assert sum(slot.sent for slot in seen.slots) == MAX_UNDER_WAY


async def test_connections_are_kept() -> None:
    used: set[int] = set()

    async with server(lambda _: answer(200, "v1")) as port:
        load = load_on(port, rate=100.0)
        await collect(load, lambda seen: answers(seen) >= 60)
        used.update(id(client) for client in load._idle)
    # As many as are under way at once, which are more on a machine that is busy.
    assert len(used) <= 60 / 2


async def test_the_direct_client_counts_on_its_own() -> None:
    async with server(lambda number: answer(200 if number % 3 else 500, "v1")) as port:
        load = load_on(1)
        direct = Direct(
            api="http://127.0.0.1:1",
            namespace="shop",
            service="checkout",
            rate=200.0,
            slow_seconds=0.3,
            slot=lambda: load.slot,
            endpoints=[("127.0.0.1", port), ("127.0.0.1", 1)],
        )
        task = asyncio.ensure_future(direct.run())
        try:
            seen = await collect(
                load,
                lambda seen: seen.bad() > 3 and seen.failures()["direct: refused"] > 3,
                through_gateway=False,
            )
        finally:
            task.cancel()
    assert set(seen.failures()) == {"direct: refused"}
    assert answers(seen) == 0


def test_endpoints_that_are_not_ready_are_not_called() -> None:
    ready = {"addresses": ["127.77.0.1"], "conditions": {"ready": True}}
    gone = {"addresses": ["127.77.0.2"], "conditions": {"ready": False}}
    slices = {
        "items": [
            {"endpoints": [ready, gone], "ports": [{"port": 8080}]},
            {"endpoints": None, "ports": None},
        ]
    }
    assert addresses(slices) == [("127.77.0.1", 8080)]


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", True),
    ],
)
def test_an_answer_is_read_when_it_is_whole(data: bytes, whole: bool) -> None:
    assert (parse(data) is not None) is whole
