# SPDX-License-Identifier: Apache-2.0
"""Whose connections the kernel has in this network, by what it shows in /proc.

All pods of the lab share the network, so a connection is in the table twice, once for each end. It
is the process that has an end's socket which tells whose it is.
"""

import contextlib
import ipaddress
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TABLES: Final = {"tcp": "TCP", "tcp6": "TCP", "udp": "UDP", "udp6": "UDP"}
LISTENS: Final = "0A"

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a connection, or a port that is listened at."""

    protocol: str
    local: Address
    remote: Address
    listens: bool
    inode: int
    """Of the socket; 0 where no process has it any more."""


def table() -> list[End]:
    """Every end in the network of the calling thread."""
    found = []
    for name, protocol in TABLES.items():
        lines = Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        for words in map(str.split, lines):
            end = End(
                protocol=protocol,
                local=_address(words[1]),
                remote=_address(words[2]),
                listens=protocol == "TCP" and words[3] == LISTENS,
                inode=int(words[9]),
            )
            found.append(end)
    return found


def _address(text: str) -> Address:
    """The kernel writes an address as numbers of 32 bits in the byte order of the machine."""
    digits, _, port = text.partition(":")
    words = (int(digits[at : at + 8], 16) for at in range(0, len(digits), 8))
    parsed = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed), int(port, 16)


def owners(pids: Iterable[int]) -> dict[int, int]:
    """The process of each socket of these; nothing of one that has ended."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    kind, _, inode = str(entry.readlink()).partition(":[")
                    if kind == "socket":
                        found[int(inode.rstrip("]"))] = pid
    return found


def of_pods(variable: str) -> dict[int, str]:
    """The processes of this network that have this variable, which names their pod.

    Other networks have labs of their own, with processes of the same kinds.
    """
    ours = _network("thread-self")
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and _network(entry.name) == ours:
                for item in (entry / "environ").read_bytes().split(b"\0"):
                    name, _, value = item.decode(errors="replace").partition("=")
                    if name == variable:
                        found[int(entry.name)] = value
    return found


def _network(process: str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def at_port(ends: Iterable[End], protocol: str, port: int) -> set[int]:
    """The sockets that have a port on their side and do not listen there."""
    return {
        end.inode
        for end in ends
        if end.protocol == protocol and end.local[1] == port and not end.listens and end.inode
    }
