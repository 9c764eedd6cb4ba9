# SPDX-License-Identifier: Apache-2.0
"""What a journal record lets its effect write: which objects by which verbs, and what into them.

Told from the effect's name and fields alone: nothing here asks the product what it does.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from controller.core.values import (
    CANARY_TRACK,
    EPOCH,
    HASH_LABEL,
    PREFIX,
    TRACK_LABEL,
    WHOLE_BP,
    canary_name,
)

Object: TypeAlias = dict[str, Any]

Write: TypeAlias = tuple[str, str, str, str]
"""Verb, resource, namespace and name, as the audit log has them."""

LATCH: Final = "switchgear-kill"

WEIGHED: Final = {"ZeroWeight", "LowerWeight", "Gather", "RaiseWeight"}
"""What gives a canary a share of a route, and changes nothing else there."""

ROUTED: Final = WEIGHED | {"AttachBackend", "DetachBackend"}


def _target(body: Object) -> Iterable[str]:
    return [body["target"]["name"]]


def _twin(body: Object) -> Iterable[str]:
    return [canary_name(body["target"]["name"])]


def _name(body: Object) -> Iterable[str]:
    return [body["name"]]


ABOUT: Final[dict[str, tuple[str, str, Callable[[Object], Iterable[str]]]]] = {
    "Annotate": ("patch", "deployments", _target),
    "Pause": ("patch", "deployments", _target),
    "Resume": ("patch", "deployments", _target),
    "Revert": ("patch", "deployments", _target),
    "Roll": ("patch", "deployments", _target),
    "CreateCanary": ("create", "deployments", _twin),
    "StartCanary": ("patch", "deployments", _twin),
    "ShrinkCanary": ("patch", "deployments", _twin),
    "OwnCanary": ("patch", "deployments", _twin),
    "DeleteCanary": ("delete", "deployments", _twin),
    "FreezeReplicaSet": ("patch", "replicasets", _name),
    "DeleteReplicaSet": ("delete", "replicasets", _name),
    "OrphanReplicaSet": ("delete", "replicasets", _name),
    "DeletePods": ("delete", "pods", lambda body: [name for name, _ in body["pods"]]),
    "PinService": ("patch", "services", _name),
    "UnpinService": ("patch", "services", _name),
    "FollowCanary": ("patch", "services", _name),
    "Confine": ("patch", "services", lambda body: body["services"]),
    "Admit": ("patch", "services", lambda body: [name for name, _ in body["services"]]),
    "CreateCanaryService": ("create", "services", lambda body: [canary_name(body["service"])]),
    "DeleteCanaryService": ("delete", "services", _name),
}
"""Verb, resource and names in the target's namespace. What is toward risk is claimed as well, which
patches the same objects."""


def objects(body: Object) -> set[Write]:
    """What an effect may write, but for a kill, which `stopped` tells."""
    effect = body["effect"]
    if effect == "Claim":
        return {_claimed(text) for text in body["objects"]}
    if effect in ROUTED:
        splits = body["splits"] if "splits" in body else [body["split"]]
        return {_routed(split["route"]) for split in splits}
    verb, resource, names = ABOUT[effect]
    return {(verb, resource, body["target"]["namespace"], name) for name in names(body)}


def stopped(state: Object, system: str) -> set[Write]:
    """What a kill may write for a run in this state: the latch, and what leads to the canary."""
    target, lanes = state["target"], state.get("lanes", ())
    space, name = target["namespace"], target["name"]
    services = {item["service"] for item in (*lanes, *state.get("pins", ()))}
    return {
        *((verb, "configmaps", system, LATCH) for verb in ("create", "patch")),
        *(_routed(lane["route"]) for lane in lanes),
        *(("patch", "services", space, service) for service in services),
        *(("patch", "deployments", space, each) for each in (name, canary_name(name))),
    }


def _routed(route: Object) -> Write:
    return "patch", f"{route['kind'].lower()}s", route["namespace"], route["name"]


def _claimed(text: str) -> Write:
    """Of an object as `Kind namespace/name`."""
    kind, place = text.split(" ")
    space, name = place.split("/")
    return "patch", f"{kind.lower()}s", space, name


def write(event: Object) -> Write:
    """The same of an event of the audit log."""
    ref = event["objectRef"]
    kind = ref["resource"] + (f"/{ref['subresource']}" if ref.get("subresource") else "")
    return event["verb"], kind, ref.get("namespace", ""), ref.get("name", "")


# --- what stands in the bodies --------------------------------------------------------------------


def amiss(body: Object, event: Object, template: Object | None = None) -> str:
    """What an accepted write says that its effect does not; empty: nothing.

    The audit log keeps the bodies of what is written to Deployments, ReplicaSets, Services and
    routes. `template` is the one of the ReplicaSet that a way back names, where that is known.
    """
    effect, (verb, resource, _, _) = body["effect"], write(event)
    if resource in {"configmaps", "pods"} or (verb == "delete" and resource != "replicasets"):
        return ""
    said = event.get("requestObject")
    if said is None:
        return "its body is not told"
    changed = changes(said)
    if not changed:
        # Nobody writes to an object that is so already.
        right = False
    elif claims(event):
        right = effect in CLAIMING
    elif effect == "Revert":
        right = _reverts(changed, template)
    elif resource.endswith("routes"):
        right = _routes_right(body, said, changed)
    else:
        right = SAYS[f"{effect} {resource}" if effect == "Kill" else effect](body, changed)
    return "" if right else f"{body} does not ask for {said}"


def claims(event: Object) -> bool:
    """Whether it puts an epoch on an object and does nothing else."""
    changed = changes(event.get("requestObject"))
    # At rest it is taken off again.
    return changed.keys() == {_note(EPOCH)} and changed[_note(EPOCH)] is not None


def changes(said: object) -> Object:
    """What a body sets, by path; None: it is taken out. Lists count as one value.

    Which object it is meant for stands in some bodies as a condition.
    """
    found: Object = {}
    if isinstance(said, list):
        for op in said:
            if op["op"] != "test":
                found.update(_leaves(op["path"], op.get("value")))
    else:
        found.update(_leaves("", said))
        found.pop("/metadata/uid", None)
    return found


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}/{_escaped(key)}", inner)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _note(name: str) -> str:
    return f"/metadata/annotations/{_escaped(name)}"


def _selects(name: str) -> str:
    return f"/spec/selector/{_escaped(name)}"


HOLD: Final = _note(f"{PREFIX}hold")
PAUSED: Final = "/spec/paused"
REPLICAS: Final = "/spec/replicas"
TEMPLATE: Final = "/spec/template"

CLAIMING: Final = {"StartCanary", "RaiseWeight", "Admit", "FollowCanary", "Roll", "Claim", "Kill"}
"""What puts an epoch on objects: what is toward risk, who takes a run over, and who stops it."""


def _narrows(changed: Object, key: str, value: str) -> bool:
    """A selector that is written has this label; beside it stand notes alone."""
    selector = {path for path in changed if path.startswith("/spec/selector/")}
    noted = all(path.startswith("/metadata/annotations") for path in changed.keys() - selector)
    return noted and (not selector or changed.get(_selects(key)) == value)


def _widens(changed: Object, *keys: str) -> bool:
    """A selector that is written has none of these labels; beside it stand notes alone."""
    told = all(path.startswith(("/metadata/annotations", "/spec/selector")) for path in changed)
    return told and not any(_selects(key) in changed for key in keys)


def _unpauses(changed: Object) -> bool:
    """As far as there is a pause, or a note of it."""
    return changed.keys() <= {PAUSED, HOLD} and not any(changed.values())


def _reverts(changed: Object, template: Object | None) -> bool:
    """A whole template is written, the one of the ReplicaSet but for its hash."""
    written = {path: value for path, value in changed.items() if path.startswith(f"{TEMPLATE}/")}
    rest = {path: value for path, value in changed.items() if path not in written}
    if not _unpauses(rest) or not written:
        return False
    if template is None:
        return f"{TEMPLATE}/spec/containers" in written
    wanted = dict(_leaves(TEMPLATE, template))
    wanted.pop(f"{TEMPLATE}/metadata/labels/{HASH_LABEL}", None)
    return written == wanted


def _confines(changed: Object) -> bool:
    hash_, track = _selects(HASH_LABEL), _selects(TRACK_LABEL)
    return changed.keys() == {hash_, track} and changed[track] is None


SAYS: Final[dict[str, Callable[[Object, Object], bool]]] = {
    "Annotate": lambda body, changed: (
        changed == {_note(PREFIX + key): text for key, text in body["annotations"].items()}
    ),
    "Pause": lambda body, changed: changed == {PAUSED: True, HOLD: body["why"]},
    "Resume": lambda _, changed: _unpauses(changed),
    "Roll": lambda _, changed: _unpauses(changed),
    "CreateCanary": lambda _, changed: changed[REPLICAS] == 0,
    "StartCanary": lambda body, changed: changed == {REPLICAS: body["replicas"]},
    "ShrinkCanary": lambda body, changed: changed == {REPLICAS: body["replicas"]},
    "OwnCanary": lambda _, changed: changed.keys() == {"/metadata/ownerReferences"},
    "FreezeReplicaSet": lambda _, changed: changed == {REPLICAS: 0},
    "DeleteReplicaSet": lambda _, changed: changed["/propagationPolicy"] == "Background",
    "OrphanReplicaSet": lambda _, changed: changed["/propagationPolicy"] == "Orphan",
    "PinService": lambda body, changed: _narrows(changed, body["key"], body["value"]),
    "FollowCanary": lambda _, changed: _narrows(changed, TRACK_LABEL, CANARY_TRACK),
    "UnpinService": lambda _, changed: _widens(changed, TRACK_LABEL),
    "Admit": lambda _, changed: _widens(changed, TRACK_LABEL, HASH_LABEL),
    "Confine": lambda body, changed: (
        _confines(changed) and changed[_selects(HASH_LABEL)] == body["hash"]
    ),
    "CreateCanaryService": lambda _, changed: changed[_selects(TRACK_LABEL)] == CANARY_TRACK,
    "Kill services": lambda _, changed: _confines(changed),
    # Only ever claimed.
    "Kill deployments": lambda _, _changed: False,
    "Claim": lambda _, _changed: False,
}
"""Whether a body is what the effect asks for, by what it changes, which is something. Routes:
`_routes_right`. The way back of a template: `_reverts`."""


def _routes_right(body: Object, said: object, changed: Object) -> bool:
    """The canary's share is the one of the record, and nothing but shares is written.

    Of a rule that is written as a whole the canary's weight is 0, or it is not in it any more.
    """
    if not isinstance(said, list):
        return False
    if body["effect"] not in WEIGHED | {"Kill"}:
        canary, gone = body["split"]["canary"], body["effect"] == "DetachBackend"
        rules = [value for path, value in changed.items() if path.endswith("/backendRefs")]
        rest = (path for path in changed if not path.endswith("/backendRefs"))
        told = [ref.get("weight") for rule in rules for ref in rule if ref["name"] == canary]
        # Who owns which field is given up last.
        notes = all(
            path.startswith(("/metadata/annotations", "/metadata/managed")) for path in rest
        )
        return notes and (told == [] if gone else bool(told) and set(told) == {0})
    usual = WHOLE_BP if body["effect"] == "Gather" else 0
    wanted = body.get("weight_bp", usual)
    shares = list(_shares(said))
    weights = all(path.endswith("/weight") for path in changed)
    return (
        weights
        and bool(shares)
        and all(canary == whole * wanted // WHOLE_BP for canary, whole in shares)
    )


def _shares(patch: list[Object]) -> Iterator[tuple[int, int]]:
    """The canary's weight and the whole of it and its Service's, of each rule and Service."""
    names = {op["path"]: op["value"] for op in patch if op["op"] == "test"}
    found: dict[tuple[str, str], list[int]] = {}
    for op in patch:
        base, _, last = op["path"].rpartition("/")
        if op["op"] != "test" and last == "weight":
            name = names[f"{base}/name"]
            service = name.removesuffix(canary_name(""))
            pair = found.setdefault((base.rpartition("/")[0], service), [0, 0])
            pair[name == service] += op["value"]
    for canary, stable in found.values():
        yield canary, canary + stable
