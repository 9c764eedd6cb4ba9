# SPDX-License-Identifier: Apache-2.0
"""A run as one page: everything on it, nothing loaded, every word escaped."""

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

from controller.core.journal import page
from tests.core.journal.judged import LIMITED, answers, journal

EVIL = "<script src=http://elsewhere/>&"


def run(told: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The facts of a run as `explain` has them."""
    verdicts = [record["body"].get("verdict") for record in told]
    return {
        "name": "checkout-c0c99cc2-e1n1",
        "target": {"namespace": "shop", "name": "checkout"},
        "phase": "Held",
        "outcome": "rolled-back",
        "why": "canary 10.0 % slower",
        "weight_bp": 0,
        "ladder": "5 % 25 % [95 %]",
        "started_at": told[0]["at"],
        "next": "switchgear release shop/checkout",
        "calibration": "phi 3",
        "verdict": verdicts[-1],
        "journal": [{"actor": "controller", **record} for record in told],
        **more,
    }


class Reader(HTMLParser):
    """What a browser would see: which elements, in balance, and the words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"


def test_a_run_that_was_slow_is_told_from_its_picture_to_its_records() -> None:
    told = journal([answers(400, slow=40)] * 20, settings=LIMITED)
    drawn = page.page(run(told))
    seen = Reader(drawn)
    assert seen.open == []
    assert seen.seen.count("svg") == 2
    pictures = re.findall("<svg.*?</svg>", drawn, re.DOTALL)
    assert "answers slower than 0.3 s" in pictures[0]
    assert "failed answers" in pictures[1]
    for picture in pictures:
        ET.fromstring(picture)
    for part in (
        "shop/checkout: rolled-back (checkout-c0c99cc2-e1n1)",
        "now at 0 % of 5 % 25 % [95 %]",
        "switchgear release shop/checkout",
        "each end with 95 % certainty",
        "latency limit 0.3 s",
        "WorseThanStable",
        "rolled back from 10^2.0 on",
        "Judged with phi 3.",
        told[-1]["at"],
    ):
        assert part in seen.words, part
    rows = re.findall(r"<tr>(.*?)</tr>", drawn)
    (deciding,) = [row for row in rows if "<td>decides</td>" in row]
    assert deciding.startswith("<td>latency</td>")
    assert drawn.count("<td>decision</td>") == len(told) - 1


def test_a_pass_was_decided_by_no_check() -> None:
    drawn = page.page(run(journal([answers(400)] * 8), outcome="promoted", next=""))
    assert "<td>decides</td>" not in drawn
    assert "<code>" not in drawn


def test_everything_is_escaped() -> None:
    told = journal([answers(400, bad=200)] * 2)
    told[-1]["body"]["verdict"]["reasons"][0]["message"] = EVIL
    told[-1]["body"]["why"] = EVIL
    told[0]["actor"] = EVIL
    facts = run(told, why=EVIL, next=EVIL, calibration=EVIL, name=EVIL, ladder=EVIL)
    seen = Reader(page.page(facts))
    assert "script" not in seen.seen
    assert seen.open == []
    assert seen.words.count(EVIL) >= 8
    ET.fromstring(page.drawing(facts))


def test_a_verdict_of_an_older_version_is_told_as_far_as_it_goes() -> None:
    told = journal([answers(400, bad=20)] * 20)
    for record in told[1:]:
        for key in ("parts", "limits", "slower", "beta", "difference"):
            del record["body"]["verdict"][key]
    drawn = page.page(run(told))
    assert "no verdict with requests yet" in drawn
    assert "WorseThanStable" in drawn


def test_a_run_without_a_verdict_has_a_page_as_well() -> None:
    told: list[dict[str, Any]] = [{"kind": "begun", "at": "2026-01-01T00:00:00Z", "body": {}}]
    facts = run(told, outcome=None, verdict=None, ladder="")
    drawn = page.page(facts)
    assert "no verdict with requests yet" in drawn
    assert "shop/checkout: Held" in drawn
    assert "Evidence" not in drawn
    assert "no verdict with requests yet" in page.drawing(facts)
