# SPDX-License-Identifier: Apache-2.0
"""`switchgear explain`: why a run stands where it stands, from its journal."""

from typing import Any

import click

from controller.app.reading import Access
from controller.cli import direct, status, talk
from controller.core.journal import story


@click.command("explain")
@click.argument("target")
@talk.namespace_option
@talk.output_option
@direct.access_options
def command(
    *,
    target: str,
    namespace: str,
    output: str,
    access: Access,
) -> None:
    """Tell the latest run of TARGET record by record: decisions, writes, who asked for what."""
    ref = talk.target_of(target, namespace)
    run = direct.latest(access, ref, journal=True)
    talk.show(run, output, _text)


def _text(run: dict[str, Any]) -> str:
    lines = [status.text(run), ""]
    if run["verdict"]:
        lines += [f"  {reason['message']}" for reason in run["verdict"]["reasons"]]
        lines.append("")
    for record in run["journal"]:
        body = record["body"]
        where = f" [{body['from']} -> {body['to']}]" if "to" in body else ""
        lines.append(
            f"  {record['at']}  {record['kind']:9} {story.sentence(body)}{where}"
            + ("" if record["actor"] == "controller" else f"  ({record['actor']})")
        )
    return "\n".join(lines)
