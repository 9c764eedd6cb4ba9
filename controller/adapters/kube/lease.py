# SPDX-License-Identifier: Apache-2.0
"""`ports.lease.Lease` as a Lease of coordination.k8s.io, whose other side may be any version of us.

The time stamps in it are for people who look at it with kubectl. Nothing here reads them as times.
"""

from typing import Any, Final, TypeAlias

from controller.adapters.kube import paths
from controller.adapters.kube.calls import MERGE_PATCH, Calls
from controller.core.errors import Missing
from controller.core.values import MANAGED_BY, MANAGED_BY_LABEL, PREFIX
from controller.ports.lease import Tenure

Json: TypeAlias = dict[str, Any]

ADDRESS: Final = PREFIX + "address"
MOST_ADDRESS: Final = 300
"""Characters of an address that are read: a host name has at most 253."""


class KubeLease:
    """One Lease object."""

    def __init__(
        self,
        calls: Calls,
        *,
        namespace: str,
        name: str,
        identity: str,
        address: str,
        seconds: float,
    ) -> None:
        """Compete as `identity`; `address` is where our doors are, `seconds` how long we hold."""
        self._calls = calls
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._address = address
        self._seconds = max(1, round(seconds))

    def _path(self, name: str) -> str:
        return paths.grouped("coordination.k8s.io", "v1", self._namespace, "leases", name)

    async def read(self) -> Tenure | None:
        """The lease by a quorum read; None if there is none."""
        try:
            return _tenure(await self._calls.get(self._path(self._name)))
        except Missing:
            return None

    async def hold(self, seen: Tenure | None, stamp: str) -> Tenure:
        """Take or renew it, by compare-and-set on what was seen."""
        spec: Json = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._seconds,
            "renewTime": _micro(stamp),
        }
        if seen is None:
            spec |= {"acquireTime": _micro(stamp), "leaseTransitions": 0}
            return _tenure(await self._calls.post(self._path(""), self._body(spec)))
        transitions = seen.transitions
        if seen.holder != self.identity:
            transitions += 1
            spec["acquireTime"] = _micro(stamp)
        spec["leaseTransitions"] = transitions
        return _tenure(await self._patch(seen, spec))

    def marked(self, seen: Tenure, stamp: str) -> str:
        """The mark that the lease has after it was renewed with this stamp."""
        return _mark(self.identity, _micro(stamp), seen.transitions)

    async def release(self, seen: Tenure) -> None:
        """Give it back, by compare-and-set."""
        # The API server wants a holder's name with at least one character, or none at all.
        await self._patch(seen, {"holderIdentity": None})

    async def _patch(self, seen: Tenure, spec: Json) -> Json:
        # A merge patch leaves alone what others wrote there, and its version is the precondition.
        meta: Json = {"resourceVersion": seen.version}
        if seen.address != self._address and "renewTime" in spec:
            meta["annotations"] = {ADDRESS: self._address or None}
        body = {"metadata": meta, "spec": spec}
        return await self._calls.patch(self._path(self._name), body, kind=MERGE_PATCH)

    def _notes(self) -> dict[str, str]:
        return {ADDRESS: self._address} if self._address else {}

    def _body(self, spec: Json) -> Json:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY},
                "annotations": self._notes(),
            },
            "spec": spec,
        }


def _mark(holder: str, renewed: object, transitions: object) -> str:
    return f"{holder} {renewed} {transitions}"


def _micro(stamp: str) -> str:
    """A stamp with the six digits behind the point that the API server insists on."""
    head, _, rest = stamp.removesuffix("Z").partition(".")
    return f"{head}.{rest.ljust(6, '0')[:6]}Z"


def _tenure(live: Json) -> Tenure:
    """Whatever somebody wrote there, read as far as it makes sense."""
    meta, spec = live["metadata"], live.get("spec") or {}
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    holder = str(spec.get("holderIdentity") or "")
    return Tenure(
        holder=holder,
        address=str((meta.get("annotations") or {}).get(ADDRESS, ""))[:MOST_ADDRESS],
        seconds=float(seconds) if isinstance(seconds, int) else 0.0,
        transitions=transitions if isinstance(transitions, int) else 0,
        version=meta["resourceVersion"],
        mark=_mark(holder, spec.get("renewTime"), transitions),
    )
