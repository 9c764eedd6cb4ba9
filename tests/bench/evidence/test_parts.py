# SPDX-License-Identifier: Apache-2.0
"""The command that prints the tables, and the document that has them."""

from pathlib import Path

import pytest

from tests.bench.evidence import cost, goals, noise, promotions, stalls
from tests.bench.evidence.__main__ import main
from tests.bench.evidence.goals import Goal, Verdict
from tests.bench.evidence.parts import PARTS, command

DOCUMENT = Path(__file__).parents[3] / "docs" / "evidence.md"


def test_the_document_has_each_part_by_the_command_that_makes_it() -> None:
    told = DOCUMENT.read_text(encoding="utf-8")
    places = [told.index(f"\n`{command(name, part.runs)}`\n\n|") for name, part in PARTS.items()]
    assert places == sorted(places)


def test_and_no_goal_of_its_table_is_missed() -> None:
    told = DOCUMENT.read_text(encoding="utf-8")
    table = told.split("| goal | reach | measured | kept? |\n")[1].split("\n\n")[0]
    verdicts = [line.split(" | ")[-1].removesuffix(" |") for line in table.splitlines()[1:]]
    assert verdicts
    assert set(verdicts) == {Verdict.KEPT.value}


def documented(name: str) -> list[list[str]]:
    """The cells of the table of a part, row by row without its head."""
    told = DOCUMENT.read_text(encoding="utf-8").split(f"\n`{command(name, PARTS[name].runs)}`\n\n")
    _, _, *lines = told[1].split("\n\n")[0].splitlines()
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("noise", [*noise.SCENARIOS]),
        ("gateways", [*noise.SCENARIOS]),
        ("seldom", [*noise.SELDOM]),
        ("stalls", [*stalls.SCENARIOS]),
        (
            "promotion",
            [
                "more errors",
                *(f"more errors, {name}" for name in promotions.NOISES),
                "more slow answers",
            ],
        ),
    ],
)
def test_what_is_played_now_is_what_the_document_tells_of(name: str, first: list[str]) -> None:
    assert [row[0] for row in documented(name)] == first


def test_a_state_has_the_size_that_the_document_says() -> None:
    told = {row[0]: int(row[-1].replace(",", "")) for row in documented("cost")}
    sizes = cost.sizes()
    # Of a logarithm the last digit is the platform's.
    assert told == {name: pytest.approx(size, abs=3) for name, size in sizes.items()}
    goal = f"| <= {cost.MOST_BYTES:,} bytes | {told[cost.EVERYTHING]:,} bytes |"
    assert goal in DOCUMENT.read_text(encoding="utf-8")


def test_a_part_is_printed_with_its_goals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peers", "burst", "--runs", "2"]) == 0
    told = capsys.readouterr().out
    for name in ("peers", "burst"):
        assert f"`{command(name, 2)}`\n\n|" in told
    assert "\n| goal | reach | measured | kept? |\n" in told
    assert "\ntook " in told


def test_runs_that_have_a_past_in_common_are_made_together() -> None:
    assert all(part.whole(part.runs) == part.runs for part in PARTS.values())
    assert [PARTS["noise"].whole(runs) for runs in (1, 25, 26)] == [25, 25, 50]
    assert {PARTS[name].whole(2) for name in ("burst", "peers")} == {2}


def test_what_is_no_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["noises"])
    assert ended.value.code == 2
    assert "no part noises" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verdicts", "missed"),
    [
        ([], False),
        ([Verdict.KEPT, Verdict.FEW], False),
        ([Verdict.KEPT, Verdict.MISSED, Verdict.FEW], True),
    ],
)
def test_only_a_goal_that_is_missed_is_a_failure(verdicts: list[Verdict], missed: bool) -> None:
    held = [Goal(what="a", reach="b", measured="c", verdict=verdict) for verdict in verdicts]
    assert goals.missed(held) is missed
