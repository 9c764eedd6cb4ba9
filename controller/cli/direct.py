# SPDX-License-Identifier: Apache-2.0
"""What the commands share that go straight to the API server, past the daemon."""

import functools
from collections.abc import Callable
from typing import Any

import click

from controller.app import reading
from controller.app.reading import Access
from controller.cli import talk
from controller.core.values import TargetRef

Command = Callable[..., Any]


def access_options(command: Command) -> Command:
    """Where the API server is and where the documents are; the command gets it as `access`."""

    @functools.wraps(command)
    def with_access(
        *, kubeconfig: str | None, context: str | None, controller_namespace: str, **others: Any
    ) -> Any:
        access = Access(kubeconfig=kubeconfig, context=context, namespace=controller_namespace)
        return command(access=access, **others)

    found: Command = with_access
    for option in (
        click.option(
            "--controller-namespace",
            envvar="SWITCHGEAR_CONTROLLER_NAMESPACE",
            default="switchgear",
            show_default=True,
            help="Namespace of the controller's documents; a sidecar's are in its own.",
        ),
        click.option("--context", envvar="SWITCHGEAR_CONTEXT", help="Context of the kubeconfig."),
        click.option(
            "--kubeconfig", envvar="SWITCHGEAR_KUBECONFIG", help="Path; else as kubectl does it."
        ),
    ):
        found = option(found)
    return found


def settle_option(command: Command) -> Command:
    """How far the gateway may be behind; the daemon's setting of the same name."""
    return click.option(
        "--settle-seconds",
        envvar="SWITCHGEAR_SETTLE_SECONDS",
        type=click.FloatRange(0.0, 60.0),
        help="How long the gateway may take from a written route to one in force; by default what "
        "the provider's file says of the controller that took the route in, else the slowest.",
    )(command)


def latest(access: Access, target: TargetRef, *, journal: bool = False) -> dict[str, Any]:
    """The newest run of a target; the command fails with exit 1 if none is on record."""
    runs = talk.ask(lambda: reading.stories(access, target, journal=journal))
    if not runs:
        message = (
            f"no run of {target} is on record in namespace {access.namespace}; `switchgear get` "
            f"lists what is; {reading.SIDECARS}"
        )
        raise talk.fail(message, talk.NO)
    return runs[-1]


def conclude(halt: dict[str, Any], output: str, headline: str, *last: str) -> None:
    """Say how far a stop has come, with what is pending; exit 4 if it is not in force yet."""

    def text(told: dict[str, Any]) -> str:
        missing = [*told["pending"], *told["problems"]]
        missing += [f"NOT COVERED: {words}" for words in told.get("not_covered", ())]
        return "\n".join([headline, *(f"  {words}" for words in (*missing, *last))])

    talk.show(halt, output, text)
    if not halt["in_force"]:
        raise SystemExit(talk.NOT_YET)
