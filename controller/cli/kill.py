# SPDX-License-Identifier: Apache-2.0
"""`switchgear kill`: everything off traffic, now; works with the daemon stopped."""

from dataclasses import replace

import click

from controller.app import reading
from controller.app.reading import Access
from controller.cli import direct, talk


@click.command("kill")
@click.argument("target", required=False)
@click.option("--namespace-only", metavar="NAMESPACE", help="Only this namespace.")
@click.option("--reason", default="", help="Optional; the journal keeps it.")
@talk.namespace_option
@direct.settle_option
@talk.output_option
@direct.access_options
def command(
    *,
    target: str | None,
    namespace_only: str | None,
    reason: str,
    namespace: str,
    settle_seconds: float | None,
    output: str,
    access: Access,
) -> None:
    """Take all canaries off traffic, now: no arguments, no confirmation.

    Latches first, then writes weight 0 into the routes itself and reads it back. Exit 0: in force.
    Exit 4: latched, not yet in force; what is missing is printed, and so are controllers that keep
    their runs in other namespaces, such as sidecars. Only `switchgear release` undoes it.
    """
    scope = "all"
    if target is not None:
        ref = talk.target_of(target, namespace)
        scope = f"target.{ref.namespace}.{ref.name}"
    elif namespace_only:
        scope = f"namespace.{namespace_only}"
    patient = replace(access, settle_seconds=settle_seconds)
    halt = talk.ask(lambda: reading.kill(patient, scope, actor=talk.actor(), reason=reason))
    state = "in force" if halt["in_force"] else "LATCHED, NOT YET IN FORCE"
    headline = f"kill {halt['scope']}: {state}; {halt['zeroed']} routes at weight 0"
    searched = f"searched: {halt['searched']}"
    direct.conclude(halt, output, headline, searched, "released only by: switchgear release")
