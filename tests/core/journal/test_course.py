# SPDX-License-Identifier: Apache-2.0
"""A journal in, and out what it says: which answers, how sure, against what, by which check."""

from dataclasses import replace
from typing import Any

import pytest

from controller.core.evidence.judge import Code, Gate, Limits, Reason
from controller.core.journal import course
from controller.core.journal.course import RULED_OUT, Course, courses, decided, words
from tests.core.journal.judged import LIMITED, PLAIN, answers, journal

FAILED, SLOW = "failed answers", "answers slower than 0.3 s"
PROVEN = Gate(dwell_seconds=4.0, proven=True)
CRASH = Reason(check="pods", code=Code.CRASH_LOOP, message="a pod crashes")


def newest(told: list[dict[str, Any]]) -> dict[str, Any]:
    verdict: dict[str, Any] = told[-1]["body"]["verdict"]
    return verdict


def names(one: Course, *, limit: bool) -> list[str]:
    return [line.words for line in one.lines if line.limit is limit]


def test_errors_against_stable() -> None:
    """The limit is the tolerance, and the policy's own beside it where there is one."""
    told = journal([answers(400, bad=20)] * 20)
    assert decided(newest(told)) == "errors decided"
    first, second = courses(told)
    assert (first.what, first.decides, second.decides) == (FAILED, True, False)
    last = first.points[-1]
    assert (last.canary, last.stable, last.outcome) == ((60, 1200), (12, 10800), "fail")
    assert 0.02 < last.least < last.difference < last.most < 0.1
    assert names(first, limit=True) == ["limit, 1.25 times stable's share"]
    assert first.lines[0].shares[-1] == pytest.approx(0.25 * 12 / 10800)
    assert names(first, limit=False) == []
    limited, _ = courses(journal([answers(400, bad=20)] * 20, settings=LIMITED))
    assert names(limited, limit=True) == [
        "limit, 1.25 times stable's share",
        "limit of the policy, 5 %",
    ]


def test_the_limit_for_errors() -> None:
    """The policy's limit alone, as a difference from what stable has."""
    settings = replace(LIMITED, tolerance=3.0)
    stable = answers(3600, bad=150, slow=4)
    told = journal([answers(400, bad=40)] * 40, stable=stable, settings=settings)
    assert decided(newest(told)) == "error limit decided"
    first, _ = courses(told)
    assert (first.what, first.decides) == (FAILED, True)
    (line,) = first.lines
    assert (line.words, line.limit) == ("limit of the policy, 5 %", True)
    assert line.shares[-1] == pytest.approx(0.05 - 150 / 3600)
    assert first.points[-1].least > line.shares[-1]


def test_latency_against_stable() -> None:
    """Slow answers come first, at the bound that the verdict names, with an interval."""
    told = journal([answers(400, slow=20)] * 20)
    assert decided(newest(told)) == "latency decided"
    first, second = courses(told)
    assert (first.what, first.decides) == (SLOW, True)
    assert (second.what, second.decides) == (FAILED, False)
    last = first.points[-1]
    assert (last.canary, last.stable) == ((60, 1200), (12, 10800))
    assert 0.01 < last.least < last.difference < last.most < 0.12
    assert names(first, limit=True) == ["limit, 1.1 times stable's share"]
    assert first.lines[0].shares[-1] == pytest.approx(0.1 * 12 / 10800)
    assert [point.outcome for point in first.points] == ["hold", "hold", "fail"]


def test_the_interval_of_slow_answers_is_shared_by_all_bounds_and_widened_by_phi() -> None:
    run = [answers(400, slow=20)] * 20
    wide, _ = courses(journal(run))
    calm, _ = courses(journal(run, settings=replace(PLAIN, latency_dispersion=1.0)))
    assert calm.points[0].most < wide.points[0].most
    told = journal(run)
    for record in told[1:]:
        seen = record["body"]["verdict"]["slower"]
        for key in ("bounds", "canary", "stable"):
            seen[key] = seen[key][-1:]
    alone, _ = courses(told)
    assert alone.points[-1].canary == wide.points[-1].canary
    assert alone.points[-1].most < wide.points[-1].most


def test_a_limit_for_latency() -> None:
    """The policy's share at its bound, though stable is slow as well."""
    settings = replace(LIMITED, latency_tolerance=3.0, past=())
    stable = answers(3600, bad=4, slow=30)
    told = journal([answers(400, slow=20)] * 40, stable=stable, settings=settings)
    assert decided(newest(told)) == "latency limit 0.3 s decided"
    first, _ = courses(told)
    assert (first.what, first.decides) == (SLOW, True)
    assert names(first, limit=True) == ["limit of the policy, 1 %"]
    assert first.lines[0].shares[-1] == pytest.approx(0.01 - 30 / 3600)
    assert names(first, limit=False) == []


def test_what_must_be_ruled_out_stands_beside_the_limit_while_nothing_failed() -> None:
    """Of errors, and of slow answers where it is their proof that is waited for."""
    told = journal([answers(40)] * 8, settings=LIMITED, gate=PROVEN)
    assert decided(newest(told)) == "held by proof"
    first, second = courses(told)
    assert (first.what, second.what) == (FAILED, SLOW)
    assert [line.words for line in first.lines] == ["limit of the policy, 5 %", RULED_OUT]
    assert first.lines[1].shares[-1] == LIMITED.safe_margin
    settings = replace(LIMITED, safe_margin=0.3)
    told = journal([answers(100)] * 5, settings=settings, gate=PROVEN)
    assert decided(newest(told)) == "held by proof latency 0.3 s"
    first, _ = courses(told)
    assert first.what == SLOW
    assert [line.words for line in first.lines] == ["limit of the policy, 1 %", RULED_OUT]
    assert first.lines[1].shares[-1] == pytest.approx(0.015 - 4 / 3600)


def test_a_pass_is_about_no_check() -> None:
    told = journal([answers(400)] * 8, settings=LIMITED)
    assert newest(told)["outcome"] == "pass"
    assert decided(newest(told)) == "nothing speaks against it"
    first, second = courses(told)
    assert (first.what, first.decides, second.decides) == (FAILED, False, False)


def test_what_no_share_of_answers_decided_is_said_in_words() -> None:
    told = journal([answers(400)] * 3, hard_trips=[CRASH])
    assert decided(newest(told)) == "pods decided"
    assert not any(one.decides for one in courses(told))


def test_a_trip_before_the_weight_is_in_force_has_no_interval() -> None:
    """Its figures are those of the check that decided, so slow answers are no failed ones."""
    told = journal([answers(400, slow=200)] * 10, opened=False)
    (only,) = courses(told)
    assert only.what == SLOW
    assert only.points[-1].canary == (200, 400)
    assert (only.points[-1].least, only.points[-1].most) == (-1.0, 1.0)
    assert any("nothing ruled out yet" in line for line in words(only))


def test_a_comparison_that_has_ended_is_no_news() -> None:
    """Where stable has no requests any more the newest verdict is none of these answers."""
    told = journal([answers(400)] * 8)
    alone = journal([answers(400)], stable=answers(0))[-1]
    found = courses([*told, {**alone, "at": "2024-01-01T00:00:00Z"}])
    assert [one.what for one in found] == [
        f"{what} while both versions had requests" for what in (FAILED, "answers slower than 0.1 s")
    ]
    assert courses(journal([answers(0)])) == []


def test_a_limit_of_latency_without_a_bound_is_no_line() -> None:
    settings = replace(PLAIN, limits=Limits(latency=((9.0, 0.01),)))
    slow, _ = courses(journal([answers(400)] * 8, settings=settings))
    assert names(slow, limit=True) == ["limit, 1.1 times stable's share"]


def test_the_words_have_all_figures() -> None:
    first, _ = courses(journal([answers(400, bad=20)] * 20, settings=LIMITED))
    told = "; ".join(words(first))
    for part in (
        "failed answers: canary 5.0 % (60 of 1200), stable 0.1 % (12 of 10800)",
        "difference to stable +4.89 points, between +",
        "each end with 95 % certainty",
        "limit of the policy, 5 %: +4.89 points",
    ):
        assert part in told, told


def test_only_what_is_ruled_out_is_said() -> None:
    last = courses(journal([answers(400)] * 2))[0].points[-1]
    for least, most, told in (
        (-0.5, 0.25, "between -50.00 and +25.00"),
        (-1.0, 0.25, "at most +25.00"),
        (-0.5, 1.0, "at least -50.00"),
        (-1.0, 1.0, ""),
    ):
        assert course.between(replace(last, least=least, most=most)) == told


def test_other_records_and_verdicts_of_older_versions_are_left_out() -> None:
    told = journal([answers(400)] * 2)
    old: dict[str, Any] = {"kind": "decision", "at": "", "body": {"verdict": {"outcome": "pass"}}}
    moved: dict[str, Any] = {"kind": "decision", "at": "", "body": {"why": "weight"}}
    assert courses([old, *told, moved]) == courses(told)
    assert courses([old, moved]) == []
