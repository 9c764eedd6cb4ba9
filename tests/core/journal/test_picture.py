# SPDX-License-Identifier: Apache-2.0
"""The picture of a run: well-formed whatever the verdicts are, true to them, and readable."""

import itertools
import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.journal.course import Course, Line, Point, courses
from controller.core.journal.picture import BAD, HEIGHT, LEADING, RIGHT, TOP, WIDTH, svg
from tests.core.journal.judged import LIMITED, answers, journal

SPACE = "{http://www.w3.org/2000/svg}"
WIDEST = 7.2
"""Pixels of a character of these texts on average, in a wide face."""


def drawn(course: Course | None, title: str = "shop/checkout") -> ET.Element:
    return ET.fromstring(svg(title, "errors decided", course))


def texts(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.findall(f"{SPACE}text")]


def heights(shape: ET.Element) -> list[float]:
    return [float(pair.split(",")[1]) for pair in shape.get("points", "").split()]


def dashed(root: ET.Element) -> list[ET.Element]:
    return [line for line in root.findall(f"{SPACE}polyline") if line.get("stroke-dasharray")]


def test_a_failure_by_errors_stands_above_its_dotted_limits_and_is_red() -> None:
    course, _ = courses(journal([answers(400, bad=60)] * 20, settings=LIMITED))
    root = drawn(course, "shop/<checkout>")
    dots = root.findall(f"{SPACE}circle")
    assert [dot.get("fill") == BAD for dot in dots] == [False] * (len(dots) - 1) + [True]
    relative, policy = dashed(root)
    assert relative.get("stroke-dasharray") == policy.get("stroke-dasharray")
    assert float(dots[-1].get("cy", "")) < heights(policy)[-1] < heights(relative)[-1]
    told = texts(root)
    assert told[0] == "shop/<checkout>"
    assert told[1] == "failed answers, in percentage points more than stable; errors decided"
    for name in ("new version +", "(95 % sure)", "as stable", "limit of the policy, 5 % (+4.89)"):
        assert any(name in text for text in told), name


def test_a_failure_by_latency_is_drawn_in_slow_answers() -> None:
    course, other = courses(journal([answers(400, slow=40)] * 20))
    root = drawn(course)
    assert texts(root)[1].startswith("answers slower than 0.3 s, in percentage points more")
    (limit,) = dashed(root)
    assert float(root.findall(f"{SPACE}circle")[-1].get("cy", "")) < heights(limit)[-1]
    assert any("limit, 1.1 times stable's share" in text for text in texts(root))
    # What did not decide is not red.
    assert {dot.get("fill") for dot in drawn(other).findall(f"{SPACE}circle")} & {BAD} == set()


def test_what_must_be_ruled_out_is_drawn_in_another_way_than_the_limit() -> None:
    course, _ = courses(journal([answers(400)] * 8, settings=LIMITED))
    root = drawn(course)
    limit, margin = dashed(root)
    for key in ("stroke", "stroke-dasharray"):
        assert limit.get(key) != margin.get(key)
    assert any("to be ruled out to promote (+0.50)" in text for text in texts(root))


def test_the_shade_is_the_interval() -> None:
    course, _ = courses(journal([answers(400, bad=20)] * 20))
    (shade,) = drawn(course).findall(f"{SPACE}polygon")
    points, found = len(course.points), heights(shade)
    assert len(found) == 2 * points
    dots = [float(dot.get("cy", "")) for dot in drawn(course).findall(f"{SPACE}circle")]
    for upper, dot, lower in zip(found[:points], dots, found[points:][::-1], strict=True):
        assert upper < dot < lower


def test_a_wide_interval_neither_hides_the_difference_nor_fills_the_picture() -> None:
    course, _ = courses(journal([answers(400)] * 8, stable=answers(3600)))
    points = tuple(replace(point, least=-0.9, most=0.015) for point in course.points)
    root = drawn(replace(course, points=points))
    (shade,) = root.findall(f"{SPACE}polygon")
    (dot, *_) = root.findall(f"{SPACE}circle")
    assert TOP + 2 < min(heights(shade)) < float(dot.get("cy", "")) - 50
    assert max(heights(shade)) > float(dot.get("cy", "")) + 50


def test_where_nothing_is_ruled_out_there_is_no_shade() -> None:
    (course,) = courses(journal([answers(400, slow=200)] * 10, opened=False))
    root = drawn(course)
    assert root.findall(f"{SPACE}polygon") == []
    assert "nothing ruled out yet" in texts(root)


def test_no_verdict_is_a_picture_that_says_so() -> None:
    assert "no verdict with requests yet" in texts(drawn(None))


def test_a_long_name_is_cut_within_the_picture() -> None:
    root = drawn(None, "shop/" + "x" * 300)
    assert texts(root)[0].endswith("x…")
    assert len(texts(root)[0]) * 8 < WIDTH


@pytest.mark.parametrize("seconds", [0.0, 0.4, 7.0, 90.0, 5_000.0, 90_000.0, 3e6])
def test_the_marks_of_time_are_few_and_apart(seconds: float) -> None:
    point = courses(journal([answers(400)] * 2))[0].points[0]
    ends = [
        Point(
            at=point.at + at,
            canary=point.canary,
            stable=point.stable,
            least=-0.01,
            most=0.01,
            outcome="hold",
        )
        for at in (0.0, seconds)
    ]
    root = drawn(Course(what="x", points=tuple(ends), lines=(), sure=0.95, decides=False))
    marks = [
        (float(text.get("x", "")), text.text or "")
        for text in root.findall(f"{SPACE}text")
        if re.fullmatch(r"[\d.]+ (s|min|h)", text.text or "")
    ]
    assert 1 <= len(marks) <= 7
    assert len({words for _, words in marks}) == len(marks)
    assert all(late[0] - early[0] > 50 for early, late in itertools.pairwise(marks))


LONG = "limit, 1.25 times stable's share"
SHARE = st.floats(-1, 1, allow_nan=False)
COUNTS = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
POINT = st.builds(
    Point,
    at=st.floats(0, 2e9),
    canary=COUNTS,
    stable=COUNTS,
    least=SHARE,
    most=SHARE,
    outcome=st.sampled_from(["pass", "hold", "fail"]),
)


@st.composite
def any_course(draw: st.DrawFn) -> Course:
    points = sorted(draw(st.lists(POINT, min_size=1, max_size=8)), key=lambda point: point.at)
    shares = st.tuples(*[st.floats(-1, 1) for _ in points])
    line = st.builds(Line, words=st.just(LONG), limit=st.booleans(), shares=shares)
    return Course(
        what="failed answers",
        points=tuple(points),
        lines=tuple(draw(st.lists(line, max_size=4))),
        sure=0.95,
        decides=draw(st.booleans()),
    )


@given(any_course())
def test_everything_stays_inside_the_frame_and_no_name_lies_on_another(course: Course) -> None:
    root = drawn(course)
    for shape in (*root.findall(f"{SPACE}polygon"), *root.findall(f"{SPACE}polyline")):
        for pair in shape.get("points", "").split():
            x, y = (float(part) for part in pair.split(","))
            assert math.isfinite(x)
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    beside = [text for text in root.findall(f"{SPACE}text") if float(text.get("x", "")) > RIGHT + 9]
    tall = sorted(float(text.get("y", "")) for text in beside)
    assert all(late - early >= LEADING - 0.2 for early, late in itertools.pairwise(tall))
    assert tall[0] > 0
    assert tall[-1] <= HEIGHT
    for text in beside:
        assert float(text.get("x", "")) + WIDEST * len(text.text or "") <= WIDTH
