# SPDX-License-Identifier: Apache-2.0
"""`switchgear demo`: plays the stories and says what they came to."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.table import Table

from controller.demo import binaries, manifests, report
from controller.demo.binaries import Binaries
from controller.demo.errors import DemoError
from controller.demo.play import play
from controller.demo.report import Result
from controller.demo.stage import Stage, stage
from controller.demo.stories import NAMES, STORIES, Story
from controller.demo.view import PlainView, TerminalView

Screen = PlainView | TerminalView


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was typed."""

    stories: Sequence[Story]
    report: Path | None
    keep: bool
    speed: float
    prometheus: Path | None


@click.command()
@click.option(
    "--story",
    "names",
    multiple=True,
    type=click.Choice(NAMES),
    help="Which story to play; repeatable. Without it all are played.",
)
@click.option(
    "--report",
    "file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write all figures and journals to this file as JSON.",
)
@click.option("--keep", is_flag=True, help="Leave the last story's parts up until Ctrl-C.")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 10.0),
    default=1.0,
    show_default=True,
    help="Divide all dwells by this.",
)
@click.option(
    "--prometheus-bin",
    "prometheus",
    type=click.Path(path_type=Path),
    envvar="SWITCHGEAR_PROMETHEUS_BIN",
    show_envvar=True,
    help="The Prometheus to use, where none is on PATH.",
)
def command(
    *, names: tuple[str, ...], file: Path | None, keep: bool, speed: float, prometheus: Path | None
) -> None:
    """Show whole rollouts on this machine, without a cluster.

    Real are the daemon, Traefik, Prometheus, the pods' HTTP servers and the clients, each a process
    of its own on loopback addresses. Simulated is the Kubernetes API server with its controllers.
    Nothing needs root. The exit code is 1 if a story did not end as it should.
    """
    chosen = [story for story in STORIES if not names or story.name in names]
    options = Options(stories=chosen, report=file, keep=keep, speed=speed, prometheus=prometheus)
    try:
        results = asyncio.run(_interruptible(options))
    except (DemoError, httpx.HTTPError) as error:
        raise click.ClickException(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("stopped; everything that was started has ended", err=True)
        raise click.exceptions.Exit(130) from None
    if report.remarks(results):
        raise click.exceptions.Exit(1)


async def _interruptible(options: Options) -> list[Result]:
    """SIGTERM and Ctrl-C take the same way out: all parts are stopped in order.

    Handled here and not by the interpreter, which leaves SIGINT ignored where a parent ignored it.
    """
    task = asyncio.ensure_future(_run(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _run(options: Options) -> list[Result]:
    console = Console()
    screen: Screen = TerminalView(console) if console.is_terminal else PlainView()
    screen.say("looking for Traefik and Prometheus ...")
    programs = await asyncio.to_thread(binaries.find, options.prometheus)
    results: list[Result] = []
    try:
        for story in options.stories:
            keep = options.keep and story is options.stories[-1]
            results.append(await _tell(story, programs, options, screen, keep=keep))
    finally:
        screen.close()
        if results:
            _conclude(results, options, console, screen)
    return results


async def _tell(
    story: Story, programs: Binaries, options: Options, screen: Screen, *, keep: bool
) -> Result:
    """One story on a stage of its own, so that none sees what another left behind."""
    result: Result | None = None
    with tempfile.TemporaryDirectory(prefix="switchgear-demo-") as name:
        folder = Path(name)
        try:
            async with stage(
                programs, folder, annotations=story.policy(options.speed), rate=story.rate
            ) as scene:
                result = await play(story, scene, screen)
                screen.say(f"{story.name}: {result.outcome} after {result.seconds:.1f} s")
                if keep:
                    screen.say(directions(scene, programs, folder))
                    await asyncio.get_running_loop().create_future()
        except DemoError as error:
            raise DemoError(f"{error}\nthe daemon's last words:\n{tail(folder)}") from error
        except asyncio.CancelledError:
            if result is None or not keep:
                raise
            # Ctrl-C is how a kept stage is left; the story itself has been told.
            current = asyncio.current_task()
            if current is not None:
                current.uncancel()
    return result


def tail(folder: Path) -> str:
    """The end of the daemon's log, which goes with the folder."""
    log = folder / "daemon.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line[:400]}" for line in lines[-10:]) or "  (none)"


def directions(scene: Stage, programs: Binaries, folder: Path) -> str:
    """Where everything is, and what is worth trying."""
    kubectl = f"{programs.kubectl or 'kubectl'} --kubeconfig {scene.kubeconfig}"
    namespace, app = manifests.NAMESPACE, manifests.APP
    own = f"{sys.executable} -m controller"
    return f"""
everything is left up; Ctrl-C ends it
  application   curl -i http://{scene.edge.address}/
  Prometheus    {scene.prometheus}
  daemon        {scene.daemon}
  API server    {scene.api.url}
  logs          {folder}
worth trying
  {kubectl} -n {namespace} get deployments,replicasets,pods,services,httproutes
  KUBECONFIG={scene.kubeconfig} {own} status {namespace}/{app}
  {kubectl} -n {namespace} set image deployment/{app} app=registry.example/{app}:v3
  curl -X POST {scene.daemon}/v1/kill
  curl {scene.daemon}/v1/runs
"""


def _conclude(
    results: Sequence[Result], options: Options, console: Console, screen: Screen
) -> None:
    """Table, remarks and report."""
    if isinstance(screen, TerminalView):
        table = Table(*report.COLUMNS)
        for row in report.rows(results):
            table.add_row(*row)
        console.print(table)
    else:
        screen.say(report.plain_table(results))
    for remark in report.remarks(results):
        screen.say(f"(!) {remark}")
    if options.report is not None:
        try:
            report.write(options.report, results)
        except OSError as error:
            raise DemoError(f"the report could not be written: {error}") from error
        screen.say(f"report written to {options.report}")
