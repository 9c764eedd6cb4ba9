# SPDX-License-Identifier: Apache-2.0
"""`switchgear explain`: why a run stands where it stands, from its journal."""

from pathlib import Path
from typing import Any

import click

from controller.app.reading import Access
from controller.cli import direct, status, talk
from controller.core.journal import course, page, story


@click.command("explain")
@click.argument("target")
@talk.namespace_option
@talk.output_option
@click.option(
    "--html",
    "report",
    type=talk.NEW_FILE,
    help="Also write it into this file, as one page with pictures.",
)
@click.option(
    "--svg",
    "drawing",
    type=talk.NEW_FILE,
    help="Also draw what decided into this file: the difference, its interval and the limit.",
)
@direct.access_options
def command(
    *,
    target: str,
    namespace: str,
    output: str,
    report: Path | None,
    drawing: Path | None,
    access: Access,
) -> None:
    """Tell the latest run of TARGET record by record: decisions, writes, who asked for what."""
    ref = talk.target_of(target, namespace)
    run = direct.latest(access, ref, journal=True)
    if report is not None:
        talk.write(report, page.page(run), "page")
    if drawing is not None:
        talk.write(drawing, page.drawing(run), "picture")
    talk.show(run, output, _text)


def _text(run: dict[str, Any]) -> str:
    lines = [status.text(run), ""]
    if run["verdict"]:
        for one in run["verdict"]["reasons"]:
            # A record of an older version says nothing of what is expected.
            told = filter(None, (one["message"], one.get("expected", "")))
            lines.append(f"  {', '.join(told)}")
        lines += [*_certainty(run), ""]
    lines += [f"  judged with {run['calibration']}", ""]
    for record in run["journal"]:
        body = record["body"]
        where = f" [{body['from']} -> {body['to']}]" if "to" in body else ""
        lines.append(
            f"  {record['at']}  {record['kind']:9} {story.sentence(body)}{where}"
            + ("" if record["actor"] == "controller" else f"  ({record['actor']})")
        )
    return "\n".join(lines)


def _certainty(run: dict[str, Any]) -> list[str]:
    """How much worse it was, how sure that is, what it was held against, and what decided."""
    lines = [f"  {line}" for one in course.courses(run["journal"]) for line in course.words(one)]
    verdict = run["verdict"]
    if "parts" not in verdict:  # One of an older version.
        return lines
    parts = ", ".join(f"{part['check']} 10^{float(part['log10']):.1f}" for part in verdict["parts"])
    return [*lines, f"  evidence against it by check: {parts}; {course.decided(verdict)}"]
