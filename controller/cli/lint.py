# SPDX-License-Identifier: Apache-2.0
"""`switchgear lint`: manifests on disk, without a cluster.

Exit codes: 0 clean, 1 problems, 2 something could not be read.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final, TextIO

import click
import yaml

from controller.cli import talk
from controller.core.policy import grammar, lint, manifests
from controller.core.policy.lint import Timing
from controller.core.policy.model import Problem
from controller.core.policy.parse import is_target

MAX_CHARACTERS: Final = 16 * 1024 * 1024
"""Longest input that is read; a rendered chart of a hundred services has some 2 MB."""


@click.command("lint")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.File("r", "utf-8"))
@click.option(
    "--complete",
    is_flag=True,
    help="The files are everything: a Service or a route that is not in them does not exist.",
)
@click.option(
    "--scrape-interval",
    default="15s",
    show_default=True,
    help="How often Prometheus scrapes; a step must leave time for three scrapes.",
)
@talk.output_option
@click.pass_context
def command(
    ctx: click.Context, files: tuple[TextIO, ...], complete: bool, scrape_interval: str, output: str
) -> None:
    """Check manifests in YAML or JSON before they reach a cluster; `-` is standard input.

    All problems are told at once. Give Services, routes and claims along with the Deployment: what
    the files do not contain cannot be checked.
    """
    timing = Timing(scrape_seconds=_seconds(scrape_interval))
    documents = [document for file in files for document in _documents(file)]
    world = manifests.read(documents, complete=complete)
    problems = {
        str(workload): found
        for workload in world.workloads
        if (found := lint.lint(workload, world, timing))
    }
    targets = [str(w) for w in world.workloads if is_target(w.annotations)]
    unchecked = lint.unchecked(world) if targets else ()
    notes = [f"{w}: {note}" for w in world.workloads for note in lint.notes(w)]
    if output == "json":
        report = {**_report(targets, problems, unchecked), "notes": notes}
        click.echo(json.dumps(report, indent=2))
    else:
        _tell(targets, problems, unchecked)
        for note in notes:
            click.echo(note, err=True)
    ctx.exit(talk.NO if problems else 0)


def _seconds(text: str) -> float:
    try:
        return grammar.duration(text)
    except grammar.Unreadable as fault:
        message = f"{fault.message}; {fault.hint}"
        raise click.BadParameter(message, param_hint="--scrape-interval") from fault


def _documents(file: TextIO) -> Iterator[object]:
    try:
        text = file.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            message = f"{file.name} is longer than {MAX_CHARACTERS} characters"
            raise click.UsageError(message)
        yield from yaml.safe_load_all(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        message = f"{file.name} is neither YAML nor JSON: {why}"
        raise click.UsageError(message) from error


def _report(
    targets: list[str], problems: dict[str, tuple[Problem, ...]], unchecked: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "targets": targets,
        "problems": [
            {"object": name, **dataclasses.asdict(problem)}
            for name, found in problems.items()
            for problem in found
        ],
        "unchecked": list(unchecked),
    }


def _tell(
    targets: list[str], problems: dict[str, tuple[Problem, ...]], unchecked: tuple[str, ...]
) -> None:
    for name, found in problems.items():
        for problem in found:
            click.echo(f"{name}: {problem} [{problem.code}]")
    if unchecked:
        click.echo(f"not checked, since the files have none: {', '.join(unchecked)}", err=True)
    if not targets and not problems:
        click.echo("no Deployment in the files asks for canaries", err=True)
    elif not problems:
        click.echo(f"no problems in {', '.join(targets)}")
