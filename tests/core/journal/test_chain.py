# SPDX-License-Identifier: Apache-2.0
"""The chain finds every change, drop, addition, swap, splice and truncation."""

import json
import random

import pytest

from controller.core.journal import chain
from controller.core.journal.chain import Head


def written(count: int, run: str = "run-1") -> tuple[list[str], Head]:
    """A journal of `count` records."""
    head, lines = Head(), []
    for number in range(count):
        record = {
            "at": "2026-01-01T00:00:00.000Z",
            "kind": "decision",
            "run": run,
            "epoch": 1,
            "actor": "controller",
            "body": {"n": number, "why": f"because {number}"},
        }
        head, line = chain.append(head, record)
        lines.append(line)
    return lines, head


def test_an_untouched_chain_holds() -> None:
    """Nothing is found where nothing was done."""
    lines, head = written(40)
    assert chain.verify(lines, head) == []


def test_a_reason_may_hold_what_unicode_calls_the_end_of_a_line() -> None:
    """Anybody may put it there, and it must not make the journal look touched."""
    record = {"kind": "request", "body": {"reason": "one\u2028two\u0085three\nfour"}}
    head, line = chain.append(Head(), record)
    head, second = chain.append(head, record)
    assert chain.lines_of(f"{line}\n{second}\n") == [line, second]
    assert chain.verify(chain.lines_of(f"{line}\n{second}"), head) == []
    assert chain.lines_of("") == []


def tampered(lines: list[str], dice: random.Random) -> list[str]:
    """The same journal after one act of tampering."""
    kind = dice.choice(["flip", "drop", "swap", "cut", "splice", "rewrite"])
    place = dice.randrange(len(lines))
    after = (place + 1) % len(lines)
    found = list(lines)
    match kind:
        case "flip":
            line = found[place]
            spot = dice.randrange(len(line))
            other = dice.choice([c for c in "0123456789abcdef" if c != line[spot]])
            found[place] = line[:spot] + other + line[spot + 1 :]
        case "drop":
            del found[place]
        case "swap":
            found[place], found[after] = found[after], found[place]
        case "cut":
            found = found[:place]
        case "splice":
            found[place] = written(place + 1, run="run-2")[0][place]
        case _:
            record = json.loads(found[place])
            record["body"]["why"] = "no reason"
            found[place] = json.dumps(record)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_every_tampering_is_found(seed: int) -> None:
    """1,000 acts of tampering, 50 for each seed: all are found."""
    dice = random.Random(seed)
    lines, head = written(30)
    for _ in range(50):
        touched = tampered(lines, dice)
        assert touched == lines or chain.verify(touched, head), "not found"


def test_without_the_head_only_a_cut_tail_is_hidden() -> None:
    """That is what the head is kept for."""
    lines, head = written(10)
    assert chain.verify(lines[:5]) == []
    assert chain.verify(lines[:5], head) != []


def test_floats_are_no_part_of_the_format() -> None:
    """Canonical JSON of a float differs between writers; integers and texts do not."""
    lines, _ = written(3)
    assert all("." not in json.dumps(json.loads(line)["body"]) for line in lines)
