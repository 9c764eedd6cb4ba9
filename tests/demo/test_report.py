# SPDX-License-Identifier: Apache-2.0
"""The report: the keys that programs rely on, and the table that people read."""

import json
from pathlib import Path

from controller.demo import report
from controller.demo.report import Result

PROMISED = {
    "name",
    "outcome",
    "seconds",
    "visible_to_zero_seconds",
    "verdict_to_zero_seconds",
    "kill_to_zero_seconds",
    "bad_responses",
    "failed_by_shifting",
    "steps",
    "journal",
}

ERRORS = Result(
    name="errors",
    expected="rolled-back",
    outcome="rolled-back",
    seconds=9.95,
    visible_to_zero_seconds=1.126,
    verdict_to_zero_seconds=0.021,
    bad_responses=40,
    requests=5919,
    steps=((0.1, 0.10004),),
    journal=({"seq": 1, "kind": "begun"},),
)
FAILED = Result(
    name="good",
    expected="promoted",
    outcome="rolled-back",
    seconds=3.0,
    failed_by_shifting=2,
    problems=("ended as rolled-back, not as promoted: x",),
)


def test_the_file_has_the_promised_keys(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    report.write(file, [ERRORS, FAILED])
    stories = json.loads(file.read_text(encoding="utf-8"))["stories"]
    assert [story["name"] for story in stories] == ["errors", "good"]
    for story in stories:
        assert story.keys() >= PROMISED
    assert stories[0]["steps"] == [{"asked": 0.1, "got": 0.1}]
    assert stories[0]["journal"] == [{"seq": 1, "kind": "begun"}]
    assert stories[1]["visible_to_zero_seconds"] is None


def test_the_table_splits_detection_from_reaction() -> None:
    text = report.plain_table([ERRORS])
    assert "1.13 s = 1.10 detection + 0.021 reaction" in text
    assert "10%=10.0%" in text


def test_what_is_wrong_is_marked_and_said() -> None:
    assert "rolled-back (!)" in report.plain_table([FAILED])
    assert report.remarks([ERRORS, FAILED]) == ["good: ended as rolled-back, not as promoted: x"]
