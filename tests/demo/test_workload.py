# SPDX-License-Identifier: Apache-2.0
"""The pod's server as the process that it is."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from controller.demo import workload
from controller.demo.process import free_port

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 20.0


@contextlib.asynccontextmanager
async def pod(**env: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A pod's process and its port; whoever asks for `ready` waits for it."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", workload.__file__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"POD_IP": "127.0.0.1", "PORT": str(port), "POD_NAME": "p1", "VERSION": "v7", **env},
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"


async def converse(port: int, requests: bytes, answers: int) -> list[str]:
    """Send all at once over one connection; returns the heads of so many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(requests)
    heads = []
    for _ in range(answers):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    return heads


async def test_pipelined_requests_are_all_answered_by_name() -> None:
    async with pod(LATENCY_MS="5") as (process, port):
        await ready(process)
        post = b"POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n"
        heads = await converse(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20 + post, 21)
    assert len(heads) == 21
    for head in heads:
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "\r\nX-Version: v7\r\n" in head
        assert "\r\nX-Pod: p1\r\n" in head


async def test_a_request_in_pieces_is_one_request() -> None:
    async with pod() as (process, port):
        await ready(process)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (b"GET / HT", b"TP/1.1\r\nConnection: cl", b"ose\r\n", b"\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        data = await reader.read(-1)
        writer.close()
    assert data.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(("rate", "bad"), [("0", 0), ("1", 50)])
async def test_errors_as_asked(rate: str, bad: int) -> None:
    async with pod(ERROR_RATE=rate, LATENCY_MS="0") as (process, port):
        await ready(process)
        heads = await converse(port, b"GET / HTTP/1.1\r\n\r\n" * 50, 50)
    assert sum(head.startswith("HTTP/1.1 500") for head in heads) == bad


async def test_slow_answers_take_their_time() -> None:
    async with pod(SLOW_RATE="1", SLOW_MS="400") as (process, port):
        await ready(process)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await converse(port, b"GET / HTTP/1.1\r\n\r\n", 1)
        assert loop.time() - begin >= 0.4


async def test_a_crash_is_an_exit_with_code_1() -> None:
    async with pod(CRASH="1") as (process, _):
        assert await process.wait() == 1


async def test_sigterm_ends_it_under_an_open_request() -> None:
    async with pod(SLOW_RATE="1", SLOW_MS="60000") as (process, port):
        await ready(process)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await writer.drain()
        process.terminate()
        assert await process.wait() == -signal.SIGTERM
        with contextlib.suppress(ConnectionError):
            assert await reader.read(-1) == b""
        writer.close()


async def test_it_ends_when_its_parent_is_gone() -> None:
    async with pod() as (process, _):
        await ready(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


async def test_it_tells_what_it_answered_and_counts_no_probe() -> None:
    async with pod(ERROR_RATE="1", LATENCY_MS="0") as (process, port):
        await ready(process)
        ask = b"GET / HTTP/1.1\r\n\r\n" * 3 + b"GET /healthz HTTP/1.1\r\n\r\n"
        heads = await converse(port, ask, 4)
        assert [head.split()[1] for head in heads] == ["500", "500", "500", "200"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
        text = (await reader.read(-1)).decode()
        writer.close()
    assert 'http_requests_total{code="500"} 3\n' in text
    assert 'http_request_duration_seconds_bucket{le="+Inf"} 3\n' in text
    assert "http_request_duration_seconds_count 3\n" in text


async def test_it_drains_when_it_is_told_to() -> None:
    async with pod(DRAIN_SECONDS="0.3") as (process, port):
        await ready(process)
        process.terminate()
        assert (await converse(port, b"GET / HTTP/1.1\r\n\r\n", 1))[0].startswith("HTTP/1.1 200")
        assert await process.wait() == 0


async def test_it_dies_as_out_of_memory() -> None:
    async with pod(OOM_SECONDS="0") as (process, _):
        assert await process.wait() == -signal.SIGKILL


async def test_it_stays_alive_and_says_that_it_is_not_well() -> None:
    """As whoever has lost what it needs: probes fail, and requests are answered all the same."""
    async with pod(UNREADY_SECONDS="0") as (process, port):
        await ready(process)
        ask = b"GET /healthz HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        heads = await converse(port, ask, 2)
    assert [head.split()[1] for head in heads] == ["500", "200"]
