# SPDX-License-Identifier: Apache-2.0
"""`switchgear abort`: roll one run back; works with the daemon stopped."""

import click

from controller.app import reading
from controller.cli import talk


@click.command("abort")
@click.argument("target")
@talk.namespace_option
@talk.settle_option
@talk.output_option
@talk.cluster_options
def command(
    *,
    target: str,
    namespace: str,
    settle_seconds: float,
    output: str,
    kubeconfig: str | None,
    context: str | None,
    controller_namespace: str,
) -> None:
    """Roll the run of TARGET back: weight 0 now, the rest when the daemon sees it.

    Exit 0: weight 0 is written and read back. Exit 4: asked for, not yet in force.
    """
    ref = talk.target_of(target, namespace)
    access = reading.Access(
        kubeconfig=kubeconfig,
        context=context,
        namespace=controller_namespace,
        settle_seconds=settle_seconds,
    )
    halt = talk.ask(lambda: reading.abort(access, ref))
    talk.show(halt, output, _text)
    if not halt["in_force"]:
        raise SystemExit(talk.NOT_YET)


def _text(halt: dict[str, object]) -> str:
    state = "weight 0" if halt["in_force"] else "ASKED FOR, NOT YET IN FORCE"
    lines = [f"abort {halt['scope']}: {state}"]
    for key in ("pending", "problems"):
        found = halt[key]
        if isinstance(found, list):
            lines += [f"  {words}" for words in found]
    return "\n".join(lines)
