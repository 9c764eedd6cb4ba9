# SPDX-License-Identifier: Apache-2.0
"""`switchgear demo`; what it needs beyond the daemon comes with the extra `demo`."""

import click

try:
    from controller.demo.command import command
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("controller"):
        raise
    missing = error.name

    @click.command()
    def command() -> None:
        """Say what is missing for the demo."""
        raise click.ClickException(
            f"the demo needs the package {missing}: "
            "python -m pip install 'switchgear[demo]' brings it along"
        )


__all__ = ["command"]
