# SPDX-License-Identifier: Apache-2.0
"""HTTPRoute and GRPCRoute: which JSON patch makes which split.

The route's own weights stay what they are in proportion. To give the canary a share in basis
points of its Service's part, every weight of a rule is multiplied by 10,000 when the canary is
attached (after dividing by what they have in common), so that `W` becomes `W x (10,000 - bp)` for
the Service and `W x bp` for the canary, exactly. What stood there before is noted in an annotation
on the route, so that a person can undo it without us.

Every patch carries `test`s for what it builds on. Weight 0 tests names only: it must go through
whatever else has moved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from controller.core.effects import SplitRef
from controller.core.errors import Conflict, Refused
from controller.core.observation import MOST_WEIGHT, Backend, Route, scale, weight_of
from controller.core.values import EPOCH, FIELD_MANAGER, OVERRIDE, PREFIX, WHOLE_BP, canary_name

Json: TypeAlias = dict[str, Any]
Ops: TypeAlias = list[Json]

ORIGINAL: Final = PREFIX + "original"


class Noted(msgspec.Struct, frozen=True, gc=False):
    """One backend as it stood before us."""

    rule: int
    index: int
    service: str
    weight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The Service's entry and the canary's in one rule, and the whole that they share."""

    rule: int
    stable: int | None
    """Index of the Service's entry; None if somebody took it out."""
    canary: int
    whole: int

    def ops(self, split: SplitRef, canary_weight: int) -> Iterator[Json]:
        """The writes for this pair, with the tests on both names."""
        base = f"/spec/rules/{self.rule}/backendRefs"
        yield test(f"{base}/{self.canary}/name", split.canary)
        yield add(f"{base}/{self.canary}/weight", canary_weight)
        if self.stable is not None:
            yield test(f"{base}/{self.stable}/name", split.service)
            yield add(f"{base}/{self.stable}/weight", self.whole - canary_weight)


def test(path: str, value: object) -> Json:
    """A precondition."""
    return {"op": "test", "path": path, "value": value}


def add(path: str, value: object) -> Json:
    """Set a member, whether it is there or not."""
    return {"op": "add", "path": path, "value": value}


# --- reading --------------------------------------------------------------------------------------


def backends(route: Json) -> tuple[Backend, ...]:
    """Every backend of every rule, in order."""
    return tuple(
        Backend(rule=number, index=index, service=ref.get("name", ""), weight=ref.get("weight"))
        for number, rule in enumerate((route.get("spec") or {}).get("rules") or ())
        for index, ref in enumerate(rule.get("backendRefs") or ())
    )


def noted(text: str) -> tuple[Noted, ...]:
    """Our note on the route; nothing if it is missing or broken."""
    if not text:
        return ()
    try:
        return msgspec.json.decode(text, type=tuple[Noted, ...])
    except msgspec.MsgspecError:
        return ()


def original(text: str) -> tuple[Backend, ...]:
    """The backends in our note, as the core sees them."""
    return tuple(
        Backend(rule=note.rule, index=note.index, service=note.service, weight=note.weight)
        for note in noted(text)
    )


def note_of(route: Json) -> tuple[Noted, ...]:
    """Our note on a live route."""
    annotations = (route.get("metadata") or {}).get("annotations") or {}
    return noted(annotations.get(ORIGINAL, ""))


def pairs(
    split: SplitRef, entries: Sequence[Backend], notes: Sequence[Noted] = ()
) -> tuple[Pair, ...]:
    """Every place where the canary stands, with its Service's entry just before it."""
    found: list[Pair] = []
    for number in sorted({entry.rule for entry in entries}):
        rule = [entry for entry in entries if entry.rule == number]
        stables = [entry for entry in rule if entry.service == split.service]
        canaries = [entry for entry in rule if entry.service == split.canary]
        before = [note for note in notes if note.rule == number]
        originals = [note for note in before if note.service == split.service]
        divisor = scale(note.weight for note in before) if before else 1
        for position, canary in enumerate(canaries):
            stable = stables[position] if position < len(stables) else None
            total = weight_of(canary.weight) + (weight_of(stable.weight) if stable else 0)
            if (total == 0 or total % WHOLE_BP) and position < len(originals):
                # Somebody wrote a weight of his own; our note says what the whole was.
                total = weight_of(originals[position].weight) // divisor * WHOLE_BP
            found.append(
                Pair(
                    rule=number,
                    stable=stable.index if stable else None,
                    canary=canary.index,
                    whole=total,
                )
            )
    return tuple(found)


# --- weights --------------------------------------------------------------------------------------


def zero(split: SplitRef, entries: Sequence[Backend], notes: Sequence[Noted] = ()) -> Ops:
    """Weight 0 for the canary, with nothing but names as preconditions; empty: it is not there."""
    return [op for pair in pairs(split, entries, notes) for op in pair.ops(split, 0)]


def raise_to(route: Route, splits: Sequence[SplitRef], weight_bp: int) -> Ops:
    """Give the canary `weight_bp`, on exactly the version of the route that was read.

    Raises `Conflict` when the canary is not in the route.
    """
    notes = noted(route.annotations.get("original", ""))
    ops = [
        test("/metadata/uid", route.uid),
        test("/metadata/resourceVersion", route.version),
    ]
    for split in splits:
        found = pairs(split, route.backends, notes)
        named = {entry.rule for entry in route.backends if entry.service == split.service}
        if (
            not found
            or any(pair.stable is None for pair in found)
            or len({pair.rule for pair in found}) < len(named)
        ):
            raise Conflict(f"{route.ref} does not have {split.canary} beside {split.service}")
        for pair in found:
            ops.extend(pair.ops(split, pair.whole * weight_bp // WHOLE_BP))
    return ops


def set_live(route: Json, split: SplitRef, weight_bp: int, *, lower_only: bool) -> Ops:
    """Give the canary `weight_bp` (or leave it where it is lower); tests the weights as read.

    What may give more tests the route's version as well.
    """
    entries = backends(route)
    weights = {(entry.rule, entry.index): entry.weight for entry in entries}
    ops: Ops = []
    for pair in pairs(split, entries, note_of(route)):
        wanted = pair.whole * weight_bp // WHOLE_BP
        present = weight_of(weights[pair.rule, pair.canary])
        if present == wanted or (lower_only and present < wanted):
            continue
        base = f"/spec/rules/{pair.rule}/backendRefs"
        for index in (pair.canary, pair.stable):
            if index is not None and weights[pair.rule, index] is not None:
                ops.append(test(f"{base}/{index}/weight", weights[pair.rule, index]))
        ops.extend(pair.ops(split, wanted))
    if ops and not lower_only:
        # What gives more must not arrive late, when the same weights stand there once more.
        ops.insert(0, test("/metadata/resourceVersion", route["metadata"]["resourceVersion"]))
    return ops


# --- attach and detach ----------------------------------------------------------------------------


def attach(route: Json, split: SplitRef) -> Ops:
    """Put the canary at weight 0 behind each entry of its Service; empty: it stands there already.

    Raises `Conflict` when no rule names the Service and `Refused` when a weight cannot be said.
    """
    rules = (route.get("spec") or {}).get("rules") or []
    before = note_of(route)
    ours = {canary_name(note.service) for note in before}
    notes = [note for note in before if _still(rules, note, ours)]
    scaled = {note.rule for note in notes}
    ops: Ops = []
    named = False
    for number, rule in enumerate(rules):
        refs = rule.get("backendRefs") or []
        names = [ref.get("name") for ref in refs]
        if split.service not in names:
            continue
        named = True
        if split.canary in names:
            continue
        if number not in scaled:
            notes.extend(_note(number, refs))
        wanted = _with_canary(refs, split, scaled=number in scaled, where=f"rule {number}")
        path = f"/spec/rules/{number}/backendRefs"
        ops.extend((test(path, refs), {"op": "replace", "path": path, "value": wanted}))
    if not named:
        raise Conflict(f"{split.route} has no rule to {split.service} any more")
    return [*_identity(route), *ops, *_write_note(route, notes)] if ops else []


def _identity(route: Json) -> Ops:
    return [test("/metadata/uid", route["metadata"]["uid"])]


def _still(rules: Sequence[Json], note: Noted, ours: set[str]) -> bool:
    """Whether a rule still has our scale: it does as long as a canary of ours is in it."""
    if note.rule >= len(rules):
        return False
    refs = rules[note.rule].get("backendRefs") or []
    return any(ref.get("name") in ours for ref in refs)


def _note(number: int, refs: Sequence[Json]) -> Iterator[Noted]:
    for index, ref in enumerate(refs):
        yield Noted(rule=number, index=index, service=ref.get("name", ""), weight=ref.get("weight"))


def _with_canary(refs: Sequence[Json], split: SplitRef, *, scaled: bool, where: str) -> list[Json]:
    divisor = scale(ref.get("weight") for ref in refs)
    wanted: list[Json] = []
    for ref in refs:
        weight = ref.get("weight")
        if not scaled:
            weight = weight_of(weight) // divisor * WHOLE_BP
            if weight > MOST_WEIGHT * WHOLE_BP:
                raise Refused(
                    f"{split.route}: {where} gives {ref.get('name')} the weight "
                    f"{ref.get('weight')}, which leaves no room for shares of a hundredth of a "
                    "percent",
                    advice=f"Use weights up to {MOST_WEIGHT}",
                )
        wanted.append({**ref, "weight": weight_of(weight)})
        if ref.get("name") == split.service:
            wanted.append({**ref, "name": split.canary, "weight": 0})
    return wanted


def _write_note(route: Json, notes: Sequence[Noted]) -> Ops:
    """Set our note, or with no notes remove all that is ours (and a map with nothing else)."""
    annotations = (route.get("metadata") or {}).get("annotations")
    path = "/metadata/annotations"
    if notes:
        text = msgspec.json.encode(sorted(notes, key=_place), order="deterministic").decode()
        if annotations is None:
            return [add(path, {ORIGINAL: text})]
        return [add(f"{path}/{_escaped(ORIGINAL)}", text)]
    ours = [key for key in (ORIGINAL, EPOCH, OVERRIDE) if key in (annotations or {})]
    if ours and len(ours) == len(annotations or {}):
        return [{"op": "remove", "path": path}]
    return [{"op": "remove", "path": f"{path}/{_escaped(key)}"} for key in ours]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _place(note: Noted) -> tuple[int, int]:
    return note.rule, note.index


def detach(route: Json, split: SplitRef, original: Sequence[Backend]) -> Ops:
    """Take the canary out of the live route and give weights that are still ours back.

    `original` serves where our note on the route is gone. Empty: nothing of ours is there.
    """
    rules = (route.get("spec") or {}).get("rules") or []
    before = note_of(route) or tuple(
        Noted(rule=item.rule, index=item.index, service=item.service, weight=item.weight)
        for item in original
    )
    others = {canary_name(note.service) for note in before} - {split.canary}
    ops: Ops = []
    shared = False
    for number, rule in enumerate(rules):
        refs = rule.get("backendRefs") or []
        names = [ref.get("name") for ref in refs]
        shared = shared or any(name in others for name in names)
        if split.canary not in names:
            continue
        left = [dict(ref) for ref in refs if ref.get("name") != split.canary]
        _give_back(left, refs, split, _notes_for(number, left, before, others), others)
        path = f"/spec/rules/{number}/backendRefs"
        ops.extend((test(path, refs), {"op": "replace", "path": path, "value": left}))
    ops.extend(() if shared else _write_note(route, ()))
    return [*_identity(route), *ops] if ops else []


def disown(route: Json) -> Ops:
    """Take our entry out of `managedFields`, once nothing of ours is left in the rules.

    Restoring a list of rules makes us its owner, since the API server compares lists that have no
    keys as a whole, with the defaults that nobody writes. An unforced server-side apply of the very
    same rules would be refused from then on. The only entry stays: an API server keeps the record
    as it is rather than none.
    """
    entries = route["metadata"].get("managedFields") or []
    for number, entry in enumerate(entries if len(entries) > 1 else []):
        ours = (entry.get("manager"), entry.get("operation")) == (FIELD_MANAGER, "Update")
        if ours and not entry.get("subresource"):
            path = f"/metadata/managedFields/{number}"
            return [*_identity(route), test(path, entry), {"op": "remove", "path": path}]
    return []


def _notes_for(
    number: int, left: Sequence[Json], notes: Sequence[Noted], others: set[str]
) -> list[Noted]:
    """What was noted of this rule; if rules have moved, of the one with the same backends."""
    names = [ref.get("name") for ref in left if ref.get("name") not in others]
    groups = {note.rule: [n for n in notes if n.rule == note.rule] for note in notes}
    same = [group for group in groups.values() if [note.service for note in group] == names]
    own = groups.get(number, [])
    return own if own in same or not same else same[0]


def _give_back(
    left: list[Json],
    refs: Sequence[Json],
    split: SplitRef,
    notes: Sequence[Noted],
    others: set[str],
) -> None:
    """Undo our weights in `left`: the Service's whole, or all of the rule with the last canary."""
    last = not any(ref.get("name") in others for ref in left)
    divisor = scale(note.weight for note in notes)
    canaries = [weight_of(ref.get("weight")) for ref in refs if ref.get("name") == split.canary]
    pending = list(notes)
    for ref in left:
        note = next((item for item in pending if item.service == ref.get("name")), None)
        if note is None:
            continue
        pending.remove(note)
        ours = weight_of(note.weight) // divisor * WHOLE_BP
        present = weight_of(ref.get("weight"))
        if ref.get("name") == split.service:
            present += canaries.pop(0) if canaries else 0
        if present != ours:
            continue
        if not last:
            ref["weight"] = ours
        elif note.weight is None:
            ref.pop("weight", None)
        else:
            ref["weight"] = note.weight
