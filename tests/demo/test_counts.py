# SPDX-License-Identifier: Apache-2.0
"""Counts of what clients saw: sums, shares and the line format between the processes."""

import pytest

from controller.demo.counts import MAX_SLOTS, Seen, Slot, Track, decode, encode, share, total


def seen(*slots: Slot) -> Seen:
    found = Seen()
    for slot in slots:
        found.add(slot)
    return found


def test_a_slot_survives_its_line() -> None:
    slot = Slot(
        end=12.5,
        sent=7,
        skipped=1,
        tracks={"v1": Track(good=3, bad=1, slow=2)},
        failures={"closed": 1},
        direct={"v1": Track(good=1)},
        direct_failures={"refused": 1},
        last={"v1": 12.4},
    )
    line = encode(slot)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == slot


def test_slots_share_no_counts() -> None:
    """A default that all slots share would count everything many times."""
    one, other = Slot(end=1.0), Slot(end=2.0)
    one.tracks["v1"] = Track(good=1)
    one.failures["closed"] = 1
    assert other.tracks == {}
    assert other.failures == {}


def test_only_slots_wholly_between_two_times_count() -> None:
    slots = [Slot(end=end, tracks={"v2": Track(good=1)}) for end in (1.0, 2.0, 3.0, 4.0)]
    inside = list(seen(*slots).between(1.0, 3.5))
    assert [slot.end for slot in inside] == [2.0, 3.0]
    assert total(inside, "v2").good == 2


def test_share_counts_bad_answers_as_answers() -> None:
    slots = [Slot(end=1.0, tracks={"v1": Track(good=9), "v2": Track(bad=1)})]
    assert share(slots, lambda version: version == "v2") == pytest.approx(0.1)
    assert share([Slot(end=1.0)], lambda _: True) is None


def test_bad_answers_and_failures_are_two_things() -> None:
    found = seen(
        Slot(end=1.0, tracks={"v2": Track(good=1, bad=2, slow=1)}, failures={"gateway 503": 4}),
        Slot(end=2.0, direct={"v2": Track(bad=1)}, direct_failures={"refused": 3}),
    )
    assert found.bad() == 3
    assert found.bad(slow=True) == 4
    assert found.failed == 7
    assert found.failures() == {"gateway 503": 4, "direct: refused": 3}


def test_last_and_first_answers_of_a_version() -> None:
    found = seen(
        Slot(end=1.0, last={"v2": 0.9}),
        Slot(end=2.0, last={"v1": 1.9}),
    )
    assert found.last("v2") == 0.9
    assert found.last("v3") is None


def test_memory_is_bounded() -> None:
    found = seen(*(Slot(end=float(number)) for number in range(MAX_SLOTS + 5)))
    assert len(found.slots) == MAX_SLOTS
    assert found.slots[0].end == 5.0
