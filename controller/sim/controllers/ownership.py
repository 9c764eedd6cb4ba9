# SPDX-License-Identifier: Apache-2.0
"""Who controls what: taking in orphans that match, letting go of what matches no longer.

Ownership goes by controllerRef alone.  Two owners may have the same selector without harming each
other, but an orphan that matches is adopted by whoever looks first: a canary deleted with orphaned
pods would feed them to the main Deployment.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.store import Store, clone
from controller.sim.controllers.objects import (
    controller_of,
    controller_ref,
    deleting,
    labels,
    selects,
)


def claim(
    store: Store, kind: str, owner: JsonObject, candidates: Iterable[JsonObject]
) -> list[JsonObject]:
    """Settle the ownership of ``candidates`` and return copies of those that ``owner`` controls.

    ``kind`` is their plural.  Candidates may be the stored objects themselves.  A write that loses
    a race leaves the candidate out; the event of the winning write brings the owner back here.
    """
    selector = owner["spec"].get("selector")
    mine: list[JsonObject] = []
    for candidate in candidates:
        ref = controller_of(candidate)
        matches = selects(selector, labels(candidate))
        if ref is None:
            if matches and not deleting(owner) and not deleting(candidate):
                mine.extend(_written(store, kind, candidate, owner, adopt=True))
        elif ref["uid"] == owner["metadata"]["uid"]:
            if matches:
                mine.append(clone(candidate))
            elif not deleting(owner):
                _written(store, kind, candidate, owner, adopt=False)
    return mine


def _written(
    store: Store, kind: str, candidate: JsonObject, owner: JsonObject, *, adopt: bool
) -> list[JsonObject]:
    changed = clone(candidate)
    refs = changed["metadata"].get("ownerReferences") or []
    kept = [ref for ref in refs if ref["uid"] != owner["metadata"]["uid"]]
    changed["metadata"]["ownerReferences"] = [*kept, controller_ref(owner)] if adopt else kept
    if not changed["metadata"]["ownerReferences"]:
        del changed["metadata"]["ownerReferences"]
    try:
        return [store.update(kind, changed)]
    except ApiError:
        return []
