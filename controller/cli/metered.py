# SPDX-License-Identifier: Apache-2.0
"""What the commands share that ask Prometheus themselves, as the daemon would."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

import click

from controller import readers
from controller.cli.talk import Command
from controller.core.policy.model import Preset


def _url(_ctx: click.Context, _option: click.Parameter, text: str | None) -> str:
    try:
        return readers.url(text) if text else ""
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _providers(
    _ctx: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    try:
        return tuple(readers.provider(name) for text in given for name in text.split(",") if name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def prometheus_options(command: Command) -> Command:
    """Where Prometheus is and whose metrics judge, as `prometheus_url` and `providers`."""
    for option in (
        click.option(
            "--provider",
            "providers",
            multiple=True,
            envvar="SWITCHGEAR_PROVIDER",
            default=("traefik", "application"),
            show_default=True,
            callback=_providers,
            help="Whose metrics judge where the policy names none, as `switchgear run` is told; "
            "repeatable.",
        ),
        click.option(
            "--prometheus",
            "--prometheus-url",
            "prometheus_url",
            envvar="SWITCHGEAR_PROMETHEUS",
            callback=_url,
            help="Address of Prometheus, as `switchgear run` is told.",
        ),
    ):
        command = option(command)
    return command


def needed(prometheus_url: str) -> None:
    """Go no further without the address of Prometheus.

    Raises:
        UsageError: It is not given.
    """
    if not prometheus_url:
        raise click.UsageError("give the address of Prometheus with --prometheus http://HOST:9090")


policy_option: Final = click.option(
    "--policy",
    "preset",
    type=click.Choice([preset.value for preset in Preset]),
    default=Preset.STANDARD.value,
    show_default=True,
    help="The policy to assume while the Deployment is not annotated.",
)
"""The policy that is assumed, as `preset`."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the engine would log is told as a finding; a line of log would break the JSON."""
    import structlog

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
