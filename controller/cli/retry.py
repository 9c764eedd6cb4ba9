# SPDX-License-Identifier: Apache-2.0
"""`switchgear retry`: try a version again that was rolled back. Goes to the daemon."""

from pathlib import Path

import click

from controller.cli import talk


@click.command("retry")
@click.argument("target")
@click.option("--reason", required=True, help="Why; the journal keeps it.")
@talk.namespace_option
@talk.server_options
def command(
    *, target: str, reason: str, namespace: str, server: str, token_file: Path | None
) -> None:
    """Give the template of TARGET that failed one more try, as a probe on the first step."""
    ref = talk.target_of(target, namespace)
    path = f"/v1/targets/{ref.namespace}/{ref.name}/retry"
    click.echo(talk.post(server, path, {"reason": reason}, token_file)["words"])
