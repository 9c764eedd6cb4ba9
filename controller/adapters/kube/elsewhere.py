# SPDX-License-Identifier: Apache-2.0
"""Controllers that keep runs and kill latch in other namespaces: sidecars, second installations.

A kill reaches the documents of one namespace. So it looks for those that it does not reach, with
the caller's own rights, and by what every controller leaves: its Lease, or its run documents.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from controller.adapters.kube import latch, paths
from controller.adapters.kube.calls import CALL_SECONDS, Calls, Query, decode
from controller.adapters.kube.documents import RUN, label_value
from controller.adapters.kube.wire import Request
from controller.core.errors import SwitchgearError
from controller.core.observation import Latches
from controller.core.values import MANAGED_BY, MANAGED_BY_LABEL, TARGET_NAME

Json: TypeAlias = dict[str, Any]

NAMES_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Run documents may have a megabyte each, and here only where they are counts."""

PAGE: Final = "500"
LEASES: Final = ("/apis/coordination.k8s.io/v1", "leases", MANAGED_BY_LABEL + "=" + MANAGED_BY)
RUNS: Final = ("/api/v1", "configmaps", f"{RUN},{MANAGED_BY_LABEL}={MANAGED_BY}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What was found.

    Attributes:
        leases: Namespace and name of each Lease of ours; None where the caller may not list them.
        runs: Namespaces with run documents; None where the caller may not list those.
    """

    leases: Collection[tuple[str, str]] | None
    runs: Collection[str] | None


async def look(calls: Calls, own: str, scope: str) -> Elsewhere:
    """Find what a kill of this scope does not reach from the namespace `own`.

    A sidecar is in its target's namespace: for a kill of less than all nothing else is looked at,
    so that rights in that namespace are enough. Raises nothing: what cannot be listed is None.
    """
    kind, _, rest = scope.partition(".")
    within, _, name = rest.partition(".")
    if within == own:
        return Elsewhere(leases=(), runs=())
    about = f",{TARGET_NAME}={label_value(name)}" if kind == "target" else ""
    leases = await _names(calls, LEASES, own, within)
    runs = await _names(calls, RUNS, own, within, about)
    if leases is not None and kind == "target":
        leases = {(space, lease) for space, lease in leases if lease == f"switchgear.{name}"}
    return Elsewhere(
        leases=leases, runs=None if runs is None else {namespace for namespace, _ in runs}
    )


async def latched(calls: Calls, namespace: str, scope: str) -> bool:
    """Whether the latch of another namespace stops this scope already, as far as we may read it."""
    try:
        found = await calls.get(paths.core(namespace, "configmaps", latch.NAME))
    except SwitchgearError:
        return False
    # Of a kill of everything or of a namespace the parts that are missing match nothing.
    within, _, name = scope.partition(".")[2].partition(".")
    return bool(Latches(kills=latch.scopes(found.get("data") or {})).kill_for(within, name))


async def _names(
    calls: Calls, kind: tuple[str, str, str], own: str, within: str, about: str = ""
) -> set[tuple[str, str]] | None:
    """Namespace and name of everything of a kind, outside of our own namespace."""
    root, plural, labels = kind
    path = f"{root}/namespaces/{within}/{plural}" if within else f"{root}/{plural}"
    query = [
        ("labelSelector", labels + about),
        ("fieldSelector", f"metadata.namespace!={own}"),
        ("limit", PAGE),
    ]
    found: set[tuple[str, str]] = set()
    token = ""
    while True:
        try:
            page = await _page(calls, path, [*query, *([("continue", token)] if token else [])])
        except SwitchgearError:
            return None
        metas = [item["metadata"] for item in page.get("items") or ()]
        found |= {(meta["namespace"], meta["name"]) for meta in metas}
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


async def _page(calls: Calls, path: str, query: Query) -> Json:
    request = Request(
        method="GET",
        path=path,
        query=tuple(query),
        headers={"accept": f"{NAMES_ONLY},application/json"},
        timeout_seconds=CALL_SECONDS,
    )
    return decode(await calls.once(request), f"GET {path}")
