# SPDX-License-Identifier: Apache-2.0
"""`switchgear run`: the daemon."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import click

from controller import settings
from controller.cli import talk
from controller.core import errors


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A flag for each row of the table of settings."""
    for row in reversed(settings.TABLE):
        shown = "" if row.default in (None, (), "") else f" [default: {_text(row.default)}]"
        command = click.option(
            row.flag,
            row.name,
            multiple=row.many,
            help=f"{row.help}{shown} [env: {row.variable}]",
        )(command)
    return command


def _text(default: object) -> str:
    return ":".join(map(str, default)) if isinstance(default, tuple) else str(default)


@click.command("run")
@_options
def command(**flags: Any) -> None:
    """Run the controller daemon until SIGTERM.

    Every flag may be given by its environment variable instead; the flag wins.
    """
    found = settings.load(flags, os.environ)
    if isinstance(found, tuple):
        for problem in found:
            click.echo(f"switchgear run: {problem}", err=True)
        raise SystemExit(2)
    from controller.app import daemon  # `--help` needs none of the libraries.

    daemon.start_logging(found.log_level)
    try:
        asyncio.run(daemon.serve(found))
    except errors.SwitchgearError as error:
        raise talk.fail(error.diagnostics(), talk.UNREACHED) from error
    except BaseExceptionGroup as group:
        if group.split(OSError)[1] is not None:
            raise
        raise talk.fail(str(_first(group)), talk.UNREACHED) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
