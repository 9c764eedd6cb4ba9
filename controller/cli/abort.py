# SPDX-License-Identifier: Apache-2.0
"""`switchgear abort`: roll one run back; works with the daemon stopped."""

from dataclasses import replace

import click

from controller.app import reading
from controller.app.reading import Access
from controller.cli import direct, talk


@click.command("abort")
@click.argument("target")
@talk.namespace_option
@direct.settle_option
@talk.output_option
@direct.access_options
def command(
    *,
    target: str,
    namespace: str,
    settle_seconds: float | None,
    output: str,
    access: Access,
) -> None:
    """Roll the run of TARGET back: weight 0 now, the rest when the daemon sees it.

    Exit 0: weight 0 is written and read back. Exit 4: asked for, not yet in force.
    """
    ref = talk.target_of(target, namespace)
    patient = replace(access, settle_seconds=settle_seconds)
    halt = talk.ask(lambda: reading.abort(patient, ref))
    state = "weight 0" if halt["in_force"] else "ASKED FOR, NOT YET IN FORCE"
    direct.conclude(halt, output, f"abort {halt['scope']}: {state}")
