# SPDX-License-Identifier: Apache-2.0
"""`switchgear release`: let rollouts happen again after a kill or a trip. Goes to the daemon."""

from pathlib import Path

import click

from controller.cli import talk


@click.command("release")
@click.argument("target", required=False)
@click.option("--namespace-only", metavar="NAMESPACE", help="Lift the kill of one namespace.")
@click.option("--reason", default="", help="Why; the journal keeps it.")
@talk.namespace_option
@talk.server_options
def command(
    *,
    target: str | None,
    namespace_only: str | None,
    reason: str,
    namespace: str,
    server: str,
    token_file: Path | None,
) -> None:
    """Lift the kill latch: of everything without arguments, else of TARGET and its breaker."""
    if target is None:
        body = {"namespace": namespace_only} if namespace_only else {}
        told = talk.post(server, "/v1/release", {**body, "reason": reason}, token_file)
        click.echo(f"released: {told['scope']}")
        for scope in told.get("still_engaged", ()):
            click.echo(f"still engaged: {scope}", err=True)
        return
    ref = talk.target_of(target, namespace)
    path = f"/v1/targets/{ref.namespace}/{ref.name}/release"
    click.echo(talk.post(server, path, {"reason": reason}, token_file)["words"])
