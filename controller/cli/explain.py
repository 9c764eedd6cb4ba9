# SPDX-License-Identifier: Apache-2.0
"""`switchgear explain`: why a run stands where it stands, from its journal."""

from pathlib import Path
from typing import Any

import click

from controller.app.reading import Access
from controller.cli import direct, status, talk
from controller.core.journal import picture, story


@click.command("explain")
@click.argument("target")
@talk.namespace_option
@talk.output_option
@click.option(
    "--svg",
    "drawing",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also draw the difference, its interval and the margin into this file.",
)
@direct.access_options
def command(
    *,
    target: str,
    namespace: str,
    output: str,
    drawing: Path | None,
    access: Access,
) -> None:
    """Tell the latest run of TARGET record by record: decisions, writes, who asked for what."""
    ref = talk.target_of(target, namespace)
    run = direct.latest(access, ref, journal=True)
    if drawing is not None:
        title = f"{ref}, {run['name']}: {run['outcome'] or run['phase']}"
        try:
            drawing.write_text(picture.svg(title, picture.points(run["journal"])), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"the picture could not be written: {error}") from error
    talk.show(run, output, _text)


def _text(run: dict[str, Any]) -> str:
    lines = [status.text(run), ""]
    if run["verdict"]:
        lines += [f"  {reason['message']}" for reason in run["verdict"]["reasons"]]
        lines += [*_certainty(run["verdict"]), ""]
    lines += [f"  judged with {run['calibration']}", ""]
    for record in run["journal"]:
        body = record["body"]
        where = f" [{body['from']} -> {body['to']}]" if "to" in body else ""
        lines.append(
            f"  {record['at']}  {record['kind']:9} {story.sentence(body)}{where}"
            + ("" if record["actor"] == "controller" else f"  ({record['actor']})")
        )
    return "\n".join(lines)


def _certainty(verdict: dict[str, Any]) -> list[str]:
    """How sure the last verdict is, and which check made it; nothing of an older version's."""
    told = verdict.get("difference")
    if not told:
        return []
    least, most, margin = (float(told[key]) * 100 for key in ("at_least", "at_most", "margin"))
    parts = ", ".join(f"{part['check']} 10^{float(part['log10']):.1f}" for part in verdict["parts"])
    between = f"between {least:+.2f} and {most:+.2f} points of failed answers"
    return [
        f"  difference to stable {between}, each with 95 % certainty",
        f"  a promotion has to rule out {margin:+.2f} points",
        f"  evidence against it by check: {parts}; it is {verdict['check']} that decided",
    ]
