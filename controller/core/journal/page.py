# SPDX-License-Identifier: Apache-2.0
"""A run as one page: what became of it, why, the picture, the evidence and the records."""

from collections.abc import Mapping
from typing import Any

from controller.core import markup
from controller.core.evidence.judge import Outcome
from controller.core.journal import course, picture, story
from controller.core.journal.course import Course
from controller.core.markup import paragraph, safe
from controller.core.values import percent


def title(run: Mapping[str, Any]) -> str:
    """The run in a line."""
    target = run["target"]
    ended = run["outcome"] or run["phase"]
    return f"{target['namespace']}/{target['name']}: {ended} ({run['name']})"


def drawing(run: Mapping[str, Any]) -> str:
    """What decided, as a picture of its own."""
    return _picture(run, next(iter(course.courses(run["journal"])), None))


def page(run: Mapping[str, Any]) -> str:
    """The page of a run's facts with their journal."""
    stands = f"Begun {run['started_at']}, now at {percent(run['weight_bp'])} of {run['ladder']}"
    body = [f"<h1>{safe(title(run))}</h1>", paragraph(run["why"]), paragraph(stands)]
    if run["next"]:
        body.append(f"<p>Next: <code>{safe(run['next'])}</code></p>")
    found = course.courses(run["journal"])
    for one in found:
        body += [_picture(run, one), markup.items(course.words(one))]
    if not found:
        body.append(_picture(run, None))
    if run["verdict"]:
        body += ["<h2>Evidence</h2>", *_evidence(run["verdict"])]
    body += [paragraph(f"Judged with {run['calibration']}."), "<h2>Records</h2>", _records(run)]
    return markup.page(title(run), body)


def _picture(run: Mapping[str, Any], one: Course | None) -> str:
    how = course.decided(run["verdict"]) if one is not None else ""
    return picture.svg(title(run), how, one)


def _evidence(verdict: Mapping[str, Any]) -> list[str]:
    passed = verdict["outcome"] == Outcome.PASS.value
    deciding = "" if passed else verdict["check"]
    rows = [
        (one["check"], _power(one["log10"]), "decides" if one["check"] == deciding else "")
        for one in verdict.get("parts", ())  # One of an older version has none.
    ]
    enough = f"rolled back from {_power(verdict['log10_needed'])} on"
    rows.append(("all together", _power(verdict["log10_evidence"]), enough))
    said = [(told["check"], told["code"], told["message"]) for told in verdict["reasons"]]
    return [
        markup.table(("check", "evidence against the new version", ""), rows),
        "<h2>Why</h2>",
        markup.table(("check", "reason", "in words"), said),
    ]


def _power(log10: str) -> str:
    return f"10^{float(log10):.1f}"


def _records(run: Mapping[str, Any]) -> str:
    rows = []
    for record in run["journal"]:
        body, actor = record["body"], record["actor"]
        moved = f"{body['from']} -> {body['to']}" if "to" in body else ""
        by = "" if actor == "controller" else f" ({actor})"
        rows.append((record["at"], record["kind"], moved, story.sentence(body) + by))
    return markup.table(("time", "record", "phase", ""), rows)
