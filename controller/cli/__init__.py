# SPDX-License-Identifier: Apache-2.0
"""The command group `switchgear`.

Subcommands are imported when they are called, not before: `switchgear kill` has to act in the
moment it is typed, and `switchgear --help` must work where an optional dependency is missing.
The table below is therefore the whole list, with the help line that `--help` prints.
"""

import importlib
from typing import NamedTuple

import click

from controller import __version__


class Entry(NamedTuple):
    """Where a command lives and the one line that `switchgear --help` shows for it."""

    module: str
    help: str


# In the order of a day's work: start, look, stop, go on, prove.
COMMANDS: dict[str, Entry] = {
    "run": Entry("controller.cli.run", "Run the controller daemon."),
    "demo": Entry("controller.cli.demo", "Show whole rollouts on this machine, without a cluster."),
    "lint": Entry("controller.cli.lint", "Check manifests before they reach a cluster."),
    "doctor": Entry("controller.cli.doctor", "Say before the first run whether it would work."),
    "checks": Entry("controller.cli.checks", "Ask a target's checks before a run does."),
    "backtest": Entry(
        "controller.cli.backtest", "Try a policy on the target's own history, before it counts."
    ),
    "get": Entry("controller.cli.get", "List targets and their runs."),
    "status": Entry(
        "controller.cli.status", "Show one target: tracks, weight, verdict, next step."
    ),
    "explain": Entry("controller.cli.explain", "Say why a run stands where it stands."),
    "kill": Entry(
        "controller.cli.kill", "Take all canaries off traffic, now. No arguments needed."
    ),
    "abort": Entry("controller.cli.abort", "Roll one run back."),
    "pause": Entry("controller.cli.pause", "Keep one run at its weight."),
    "release": Entry("controller.cli.release", "Let rollouts happen again after a kill or a trip."),
    "retry": Entry("controller.cli.retry", "Try a version again that was rolled back."),
    "promote": Entry("controller.cli.promote", "Move a run on without waiting for evidence."),
    "audit": Entry("controller.cli.audit", "Verify an exported journal, offline."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the table's order, which is the order of use and not of the alphabet."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name` and hand out its `command`."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(entry.module).command
        if not isinstance(command, click.Command):
            msg = f"{entry.module}.command is not a click command"
            raise TypeError(msg)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list from the table, so that `--help` imports no command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="switchgear")
def main() -> None:
    """Progressive delivery for plain Kubernetes Deployments.

    A change of an annotated Deployment meets a small, capped slice of traffic first, is judged
    against the running version, and is promoted or rolled back.
    """
