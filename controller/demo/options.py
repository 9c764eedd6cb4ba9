# SPDX-License-Identifier: Apache-2.0
"""The options by which the demo is sent to a real cluster, and what they must come with."""

from collections.abc import Callable
from typing import Any, Final

import click

from controller.demo.access import Access
from controller.demo.errors import DemoError
from controller.demo.existing import Wanted

_OPTIONS: Final = (
    click.option(
        "--on-cluster",
        is_flag=True,
        help="Play on a real cluster, which --kubeconfig or --context must name.",
    ),
    click.option("--kubeconfig", help="Kubeconfig of the cluster; implies --on-cluster."),
    click.option("--context", help="Context of the kubeconfig; implies --on-cluster."),
    click.option(
        "--gateway",
        metavar="NAMESPACE/NAME",
        help="The Gateway to use, where the cluster has several.",
    ),
    click.option(
        "--gateway-address",
        "address",
        metavar="HOST:PORT",
        help="Where it is reached from here; by default the address in its status.",
    ),
    click.option(
        "--prometheus",
        metavar="URL",
        help="The Prometheus that scrapes the gateway, as it is reached from here.",
    ),
    click.option(
        "--image", help="An image of Switchgear that nodes can pull; it has the application in it."
    ),
)

Command = Callable[..., Any]


def of_a_cluster(command: Command) -> Command:
    """Give a command the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def wanted(
    *,
    on_cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    **about: str | None,
) -> Wanted | None:
    """What the options come to; None for the simulated cluster.

    Raises click.UsageError where they do not go together. A cluster is used only if it was named:
    whatever kubectl happens to point at may be one on which nobody wants a demo.
    """
    access = Access(kubeconfig=kubeconfig, context=context)
    if access.named:
        return Wanted(access=access, **about)
    if on_cluster:
        try:
            current = access.current()
        except DemoError as error:
            raise click.UsageError(
                f"--on-cluster needs the name of a cluster: --kubeconfig FILE or --context NAME "
                f"({error})"
            ) from error
        raise click.UsageError(
            f"--on-cluster would use the current context. If that is meant, say so: "
            f"--context {current}"
        )
    given = [f"--{_FLAGS[name]}" for name, value in about.items() if value is not None]
    if given:
        raise click.UsageError(
            f"{', '.join(given)}: only for a real cluster, which --kubeconfig FILE or "
            "--context NAME names"
        )
    return None


_FLAGS: Final = {
    "gateway": "gateway",
    "address": "gateway-address",
    "prometheus": "prometheus",
    "image": "image",
}
