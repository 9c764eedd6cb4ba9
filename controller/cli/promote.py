# SPDX-License-Identifier: Apache-2.0
"""`switchgear promote`: move a run on without waiting for evidence. Goes to the daemon."""

from pathlib import Path

import click

from controller.cli import talk


@click.command("promote")
@click.argument("target")
@click.option("--reason", required=True, help="Why; the journal keeps it.")
@talk.namespace_option
@talk.server_options
def command(
    *, target: str, reason: str, namespace: str, server: str, token_file: Path | None
) -> None:
    """Let the present step of TARGET count as passed; a failing version is never promoted."""
    ref = talk.target_of(target, namespace)
    path = f"/v1/targets/{ref.namespace}/{ref.name}/promote"
    click.echo(talk.post(server, path, {"reason": reason}, token_file)["words"])
