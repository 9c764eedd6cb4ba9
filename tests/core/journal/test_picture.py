# SPDX-License-Identifier: Apache-2.0
"""The picture of a run: well-formed whatever the verdicts are, and true to them."""

import math
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.journal.picture import HEIGHT, WIDTH, Point, points, svg

SPACE = "{http://www.w3.org/2000/svg}"


def verdict(at: str, bad: int, least: float, most: float, outcome: str = "pass") -> dict[str, Any]:
    return {
        "kind": "decision",
        "at": at,
        "body": {
            "verdict": {
                "outcome": outcome,
                "canary": {"requests": 1000, "errors": bad},
                "stable": {"requests": 9000, "errors": 9},
                "difference": {
                    "at_least": f"{least:.6f}", "at_most": f"{most:.6f}", "margin": "0.025000",
                },
            }
        },
    }  # fmt: skip


JOURNAL = [
    {"kind": "begun", "at": "2026-01-01T00:00:00Z", "body": {}},
    verdict("2026-01-01T00:01:00Z", 1, -0.01, 0.02),
    {"kind": "decision", "at": "2026-01-01T00:01:30Z", "body": {"why": "weight"}},
    verdict("2026-01-01T00:02:00.500Z", 60, 0.03, 0.09, "fail"),
]


def test_the_verdicts_are_read_from_the_decisions() -> None:
    first, last = points(JOURNAL)
    assert last.at - first.at == pytest.approx(60.5)
    assert (first.difference, first.least, first.most) == pytest.approx((0.0, -0.01, 0.02))
    assert (last.outcome, last.margin) == ("fail", 0.025)
    silent = verdict("2026-01-01T00:01:00Z", 0, -1, 1)
    silent["body"]["verdict"]["canary"]["requests"] = 0
    old: dict[str, Any] = {"kind": "decision", "at": "", "body": {"verdict": {"outcome": "pass"}}}
    assert points([silent, old]) == []


def test_a_failure_stands_above_the_margin_and_is_red() -> None:
    root = ET.fromstring(svg("shop/<checkout>", points(JOURNAL)))
    dots = root.findall(f"{SPACE}circle")
    dotted = next(line for line in root.findall(f"{SPACE}line") if line.get("stroke-dasharray"))
    assert [dot.get("fill") for dot in dots] == ["#1f4e79", "#c0392b"]
    assert float(dots[0].get("cy", "")) > float(dotted.get("y1", "")) > float(dots[1].get("cy", ""))
    assert "shop/<checkout>" in [text.text for text in root.findall(f"{SPACE}text")]


def test_no_verdict_is_a_picture_that_says_so() -> None:
    assert "no verdict yet" in svg("shop/checkout", [])


SHARE = st.floats(-1, 1, allow_nan=False)


@given(
    st.lists(
        st.builds(
            Point,
            at=st.floats(0, 2e9),
            difference=SHARE,
            least=SHARE,
            most=SHARE,
            margin=st.floats(0.001, 0.5),
            outcome=st.sampled_from(["pass", "hold", "fail"]),
        ),
        max_size=8,
    )
)
def test_everything_stays_inside_the_frame(verdicts: list[Point]) -> None:
    verdicts.sort(key=lambda point: point.at)
    root = ET.fromstring(svg("run", verdicts))
    for shape in (*root.findall(f"{SPACE}polygon"), *root.findall(f"{SPACE}polyline")):
        for pair in shape.get("points", "").split():
            x, y = (float(part) for part in pair.split(","))
            assert math.isfinite(x)
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
