# SPDX-License-Identifier: Apache-2.0
"""What the commands share: where the cluster and the daemon are, targets, output and exit codes.

Exit codes are stable: 0 done, 1 the answer is no, 2 wrong usage, 3 the other side was not reached,
4 latched but not yet in force.
"""

import asyncio
import getpass
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from controller.core import errors
from controller.core.values import TargetRef, is_name, is_namespace

NO: Final = 1
USAGE: Final = 2
UNREACHED: Final = 3
NOT_YET: Final = 4

SERVER_SECONDS: Final = 70.0
"""Deadline of a call to the daemon; a kill that waits for 60 s fits."""

Command = TypeVar("Command", bound=Callable[..., Any])


def server_options(command: Command) -> Command:
    """Where the daemon is, for what moves toward risk."""
    for option in (
        click.option(
            "--token-file",
            envvar="SWITCHGEAR_TOKEN_FILE",
            type=click.Path(path_type=Path),
            help="File with the daemon's token.",
        ),
        click.option(
            "--server",
            envvar="SWITCHGEAR_SERVER",
            default="http://127.0.0.1:8340",
            show_default=True,
            help="Address of the daemon.",
        ),
    ):
        command = option(command)
    return command


def output_option(command: Command) -> Command:
    """Text for people or JSON for programs."""
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True
    )(command)


def namespace_option(command: Command) -> Command:
    """The namespace of a target that is named without one."""
    return click.option("-n", "--namespace", default="default", show_default=True)(command)


NEW_FILE: Final = click.Path(dir_okay=False, writable=True, path_type=Path)
"""An option's file that is written."""


def write(path: Path, text: str, what: str) -> None:
    """Write a file that was asked for; one that cannot be written is one line, exit 1."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"the {what} could not be written: {error}") from error


def target_of(text: str, namespace: str) -> TargetRef:
    """`shop/checkout`, `deployment/checkout` or `checkout`. Raises click.BadParameter."""
    first, slash, second = text.partition("/")
    if slash and first not in {"deployment", "deployments", "deploy", "deployments.apps"}:
        namespace = first
    name = second if slash else first
    if is_namespace(namespace) and is_name(name):
        return TargetRef(namespace, name)
    message = f"{text!r} is no target; write namespace/name"
    raise click.BadParameter(message)


def actor() -> str:
    """The name that the journal shows for this caller; claimed, not proven."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


Answer = TypeVar("Answer")


def ask(work: Callable[[], Awaitable[Answer]]) -> Answer:
    """Run something against the cluster; an error of the outside is one clear message, exit 3."""

    async def run() -> Answer:
        return await work()

    try:
        return asyncio.run(run())
    except (errors.Refused, errors.Missing) as error:
        raise fail(error.diagnostics(), NO) from error
    except errors.SwitchgearError as error:
        raise fail(f"no cluster was reached: {error.diagnostics()}", UNREACHED) from error


class Failure(click.ClickException):
    """A message and an exit code of our own."""

    def __init__(self, message: str, code: int) -> None:
        """`code` is one of those that the module's docstring lists."""
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it for the class only.


def fail(message: str, code: int) -> click.ClickException:
    """An error that click prints as one line, with the exit code given."""
    return Failure(message, code)


def post(server: str, path: str, body: dict[str, Any], token_file: Path | None) -> Any:
    """Ask the daemon for an act; its refusal is one line, exit 1."""
    import httpx  # Only the commands that call the daemon pay for it.

    # Bytes, since the name of a user may hold what a header's text may not.
    headers = {b"X-Switchgear-Actor": actor().encode()}
    if token_file is not None:
        try:
            headers[b"Authorization"] = f"Bearer {token_file.read_text().strip()}".encode()
        except (OSError, UnicodeDecodeError) as error:
            raise fail(f"the token file cannot be read: {error}", USAGE) from error
    url = f"{server.rstrip('/')}{path}"
    try:
        answer = httpx.post(
            url, json=body, headers=headers, timeout=SERVER_SECONDS, trust_env=False
        )
    except httpx.InvalidURL as error:
        raise fail(f"--server {server} is no address: {error}", USAGE) from error
    except httpx.HTTPError as error:
        message = (
            f"the daemon at {server} was not reached ({error}); give its address with --server, "
            "for example after `kubectl port-forward -n switchgear deployment/switchgear 8340`"
        )
        raise fail(message, UNREACHED) from error
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        message = f"{server} answered {answer.status_code}, but that was not the daemon"
        raise fail(message, UNREACHED)
    if answer.is_error:
        raise fail(str(told.get("detail", answer.text)), NO)
    return told


def show(value: Any, output: str, text: Callable[[Any], str]) -> None:
    """Print as JSON, or as the text that `text` makes of it."""
    click.echo(json.dumps(value, indent=2) if output == "json" else text(value))
