# SPDX-License-Identifier: Apache-2.0
"""A server of names for pods that are told of it: the lab has none of its own.

By UDP it says of every answer that it is too long, as it would be with many addresses, so that
whoever asks comes again by TCP: both are in use then.
"""

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, cast

ADDRESS: Final = "10.96.0.10"
"""Where most clusters have theirs."""

PORT: Final = 53

Told = Callable[[str, str, int], None]
"""Protocol, name that is asked for, and the port of whoever asks, who waits meanwhile."""

_ANSWER, _TRUNCATED, _NO_SUCH_NAME = 0x8180, 0x0200, 3
_A, _IN, _SECONDS = 1, 1, 1
_LABELS_AT: Final = 12
"""The question stands behind a head of so many bytes."""


def _asked(query: bytes) -> tuple[str, int, bytes]:
    """The name, the type, and the question as it stands there."""
    labels, at = [], _LABELS_AT
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return ".".join(labels).lower(), kind, query[_LABELS_AT : at + 5]


def _answer(query: bytes, known: Mapping[str, str], *, whole: bool) -> tuple[str, bytes]:
    """The name that was asked for, and what is said of it."""
    name, kind, question = _asked(query)
    address = known.get(name)
    flags = _ANSWER | (0 if address else _NO_SUCH_NAME) | (0 if whole else _TRUNCATED)
    records = b""
    if whole and address and kind == _A:
        packed = ipaddress.IPv4Address(address).packed
        records = struct.pack("!HHHIH", 0xC000 | _LABELS_AT, _A, _IN, _SECONDS, 4) + packed
    head = query[:2] + struct.pack("!HHHHH", flags, 1, 1 if records else 0, 0, 0)
    return name, head + question + records


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, known: Mapping[str, str], told: Told) -> None:
        self._known, self._told = known, told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # It is one, though its class does not say so before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, answer = _answer(data, self._known, whole=False)
        self._told("UDP", name, addr[1])
        self._transport.sendto(answer, addr)


@contextlib.asynccontextmanager
async def serving(known: Mapping[str, str], told: Told) -> AsyncIterator[None]:
    """Answer for these names, and tell who asked before he has his answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                name, answer = _answer(await reader.readexactly(length), known, whole=True)
                told("TCP", name, port)
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(known, told), local_addr=(ADDRESS, PORT)
    )
    server = await asyncio.start_server(serve, ADDRESS, PORT)
    try:
        yield
    finally:
        server.close()
        transport.close()
