# SPDX-License-Identifier: Apache-2.0
"""A network namespace of this process's own, in which the whole lab lives.

The calling thread moves itself; whatever it starts from then on is inside as well. Nothing inside
reaches the outside or is reached from it, so that ports and addresses need no coordination, and
several labs run side by side. Kernel interfaces are used directly: no program of the system is
needed. Where the process is not root, it must be root of a user namespace (`unshare --user
--map-root-user`), which `make test-cluster` arranges.
"""

import contextlib
import ctypes
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.cluster.lab.toolchain import Unavailable

PODS: Final = "10.77.0.0/16"
"""Addresses of pods and nodes; EndpointSlices refuse loopback addresses."""

SERVICES: Final = "10.96.0.0/16"

_CLONE_NEWNET = 0x40000000

# From linux/rtnetlink.h and linux/if.h.
_RTM_NEWLINK, _RTM_NEWROUTE = 16, 24
_REQUEST, _ACK, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_UP = 0x1
_TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL = 255, 3, 254, 2
_DESTINATION, _OUTPUT = 1, 4
_ERROR = 2
_LOOPBACK = 1
"""The index of `lo` in a new namespace."""


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Another network for the calling thread, which is back in the one it left after the block.

    What was opened before or inside stays in the network in which it was opened. Raises Unavailable
    as `enter` does, and OSError where the network that was left belongs to another user namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as left:
        enter()
        try:
            yield
        finally:
            if libc.setns(left.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "no way back into the network")


def enter() -> None:
    """Move the calling thread into a new network; raises Unavailable where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        reason = os.strerror(ctypes.get_errno())
        raise Unavailable(
            f"no network namespace ({reason}). Run as root, or where user namespaces are allowed: "
            "`sysctl kernel.unprivileged_userns_clone=1` or "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, then `make test-cluster`"
        )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        _ask(netlink, _RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, _LOOPBACK, _UP, _UP))
        for network in (PODS, SERVICES):
            _ask(netlink, _RTM_NEWROUTE, _CREATE | _REPLACE, _local(network))


def _local(network: str) -> bytes:
    """A route by which every address of a network is this machine's own."""
    parsed = ipaddress.ip_network(network)
    header = struct.pack(
        "=BBBBBBBBI",
        *(socket.AF_INET, parsed.prefixlen, 0, 0),
        *(_TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL, 0),
    )
    destination = struct.pack("=HH", 8, _DESTINATION) + parsed.network_address.packed
    return header + destination + struct.pack("=HHi", 8, _OUTPUT, _LOOPBACK)


def _ask(netlink: socket.socket, kind: int, flags: int, body: bytes) -> None:
    header = struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST | _ACK, 1, 0)
    netlink.send(header + body)
    answer = netlink.recv(4096)
    (answered,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, 16)
    if answered == _ERROR and code:
        raise Unavailable(f"the network could not be set up: {os.strerror(-code)}")
