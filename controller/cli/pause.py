# SPDX-License-Identifier: Apache-2.0
"""`switchgear pause`: keep a run at its weight; works with the daemon stopped."""

import click

from controller.app import reading
from controller.app.reading import Access
from controller.cli import direct, talk


@click.command("pause")
@click.argument("target")
@talk.namespace_option
@direct.access_options
def command(
    *,
    target: str,
    namespace: str,
    access: Access,
) -> None:
    """Let no weight of TARGET rise; toward safety it still moves. `kubectl annotate` undoes it.

    The mark is the annotation `switchgear.dev/paused`, so whoever may edit the Deployment may set
    and remove it.
    """
    ref = talk.target_of(target, namespace)
    talk.ask(lambda: reading.pause(access, ref))
    click.echo(
        f"{ref} is paused; go on with\n  kubectl annotate -n {ref.namespace} deployment/{ref.name} "
        "switchgear.dev/paused-"
    )
