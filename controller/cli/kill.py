# SPDX-License-Identifier: Apache-2.0
"""`switchgear kill`: everything off traffic, now; works with the daemon stopped."""

import click

from controller.app import reading
from controller.cli import talk


@click.command("kill")
@click.argument("target", required=False)
@click.option("--namespace-only", metavar="NAMESPACE", help="Only this namespace.")
@click.option("--reason", default="", help="Optional; the journal keeps it.")
@talk.namespace_option
@talk.settle_option
@talk.output_option
@talk.cluster_options
def command(
    *,
    target: str | None,
    namespace_only: str | None,
    reason: str,
    namespace: str,
    settle_seconds: float,
    output: str,
    kubeconfig: str | None,
    context: str | None,
    controller_namespace: str,
) -> None:
    """Take all canaries off traffic, now: no arguments, no confirmation.

    Latches first, then writes weight 0 into the routes itself and reads it back. Exit 0: in force.
    Exit 4: latched, not yet in force; what is missing is printed. Only `switchgear release` undoes
    it.
    """
    scope = "all"
    if target is not None:
        ref = talk.target_of(target, namespace)
        scope = f"target.{ref.namespace}.{ref.name}"
    elif namespace_only:
        scope = f"namespace.{namespace_only}"
    access = reading.Access(
        kubeconfig=kubeconfig,
        context=context,
        namespace=controller_namespace,
        settle_seconds=settle_seconds,
    )
    halt = talk.ask(lambda: reading.kill(access, scope, actor=talk.actor(), reason=reason))
    talk.show(halt, output, _text)
    if not halt["in_force"]:
        raise SystemExit(talk.NOT_YET)


def _text(halt: dict[str, object]) -> str:
    state = "in force" if halt["in_force"] else "LATCHED, NOT YET IN FORCE"
    lines = [f"kill {halt['scope']}: {state}; {halt['zeroed']} routes at weight 0"]
    for key in ("pending", "problems"):
        found = halt[key]
        if isinstance(found, list):
            lines += [f"  {words}" for words in found]
    lines.append("  released only by: switchgear release")
    return "\n".join(lines)
