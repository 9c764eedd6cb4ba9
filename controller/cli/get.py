# SPDX-License-Identifier: Apache-2.0
"""`switchgear get`: all runs, straight from the API server."""

from typing import Any

import click

from controller.app import reading
from controller.app.reading import Access
from controller.cli import direct, talk

COLUMNS = ("TARGET", "PHASE", "OUTCOME", "WEIGHT", "RUN", "WHY")
WHY_WIDTH = 70


@click.command("get")
@click.option("-a", "--all", "every", is_flag=True, help="Ended runs as well.")
@click.option("-n", "--namespace", help="Only runs of targets in this namespace.")
@talk.output_option
@direct.access_options
def command(
    *,
    every: bool,
    namespace: str | None,
    output: str,
    access: Access,
) -> None:
    """List the runs that are under way or held.

    Runs only: a target that nothing was changed on, or under the policy observe, is not listed.
    """
    runs = talk.ask(lambda: reading.stories(access))
    shown = [
        run
        for run in runs
        if (every or run["phase"] != "Ended") and namespace in {None, run["target"]["namespace"]}
    ]
    talk.show({"runs": shown}, output, _table)


def _table(told: dict[str, Any]) -> str:
    if not told["runs"]:
        return "no run is under way or held; `switchgear get --all` lists the ended ones"
    rows = [COLUMNS, *(_row(run) for run in told["runs"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    target = run["target"]
    return (
        f"{target['namespace']}/{target['name']}",
        run["phase"],
        run["outcome"] or "-",
        f"{run['weight_bp'] / 100:g} %",
        run["name"],
        run["why"][:WHY_WIDTH],
    )
