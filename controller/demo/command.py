# SPDX-License-Identifier: Apache-2.0
"""`switchgear demo`: plays the stories and says what they came to."""

import asyncio
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx
from rich.console import Console
from rich.table import Table

from controller.demo import binaries, existing, manifests, options, report, simulated
from controller.demo.errors import DemoError
from controller.demo.existing import Wanted
from controller.demo.ground import Opening
from controller.demo.play import play
from controller.demo.report import Result
from controller.demo.signals import TRAEFIK
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
    rate: float | None
    prometheus: Path | None
    cluster: Wanted | None
    """None for the one that is simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the stories are played."""

    open: Callable[[Path], Opening]
    """Makes the ground of one story, with files in a folder."""
    slow_seconds: float
    """From when on an answer is slow, as its gateway can tell."""


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
    "--rate",
    type=click.FloatRange(1.0, 10_000.0),
    help="At most so many requests per second; stories have 400 where they need any.",
)
@click.option(
    "--prometheus-bin",
    "program",
    type=click.Path(path_type=Path),
    envvar="SWITCHGEAR_PROMETHEUS_BIN",
    show_envvar=True,
    help="The Prometheus to use, where none is on PATH.",
)
@options.of_a_cluster
def command(
    *,
    names: tuple[str, ...],
    file: Path | None,
    keep: bool,
    speed: float,
    rate: float | None,
    program: Path | None,
    **cluster: Any,
) -> None:
    """Show whole rollouts on this machine without a cluster, or on a cluster of yours.

    Real are the daemon, Traefik, Prometheus, the pods' HTTP servers and the clients, each a process
    of its own on loopback addresses. Simulated is the Kubernetes API server with its controllers.
    Nothing needs root. The exit code is 1 if a story did not end as it should.

    With --kubeconfig or --context nothing is simulated: each story makes a namespace for itself in
    that cluster, plays there through the Gateway and the Prometheus that it has, with the daemon
    and the clients on this machine, and removes the namespace at its end, whatever happens.
    """
    told = Options(
        stories=[story for story in STORIES if not names or story.name in names],
        report=file,
        keep=keep,
        speed=speed,
        rate=rate,
        prometheus=program,
        cluster=options.wanted(**cluster),
    )
    try:
        results = asyncio.run(_interruptible(told))
    except (DemoError, httpx.HTTPError) as error:
        raise click.ClickException(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("stopped; everything that was started has ended", err=True)
        raise click.exceptions.Exit(130) from None
    if report.remarks(results):
        raise click.exceptions.Exit(1)


async def _interruptible(told: Options) -> list[Result]:
    """SIGTERM and Ctrl-C take the same way out: all parts are stopped in order.

    Handled here and not by the interpreter, which leaves SIGINT ignored where a parent ignored it.
    """
    task = asyncio.ensure_future(_run(told))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _run(told: Options) -> list[Result]:
    console = Console()
    screen: Screen = TerminalView(console) if console.is_terminal else PlainView()
    place = await _place(told, screen)
    results: list[Result] = []
    try:
        for story in told.stories:
            keep = told.keep and story is told.stories[-1]
            results.append(await _tell(story, place, told, screen, keep=keep))
    finally:
        screen.close()
        if results:
            _conclude(results, told, console, screen)
    return results


async def _place(told: Options, screen: Screen) -> Place:
    """Find all that is needed; raises DemoError with all that is missing."""
    if told.cluster is not None:
        screen.say("looking at the cluster ...")
        site = await existing.survey(told.cluster)
        screen.say(site.title())
        return Place(
            open=lambda _: existing.ground(site, screen.say),
            slow_seconds=site.door.signals.slow_seconds,
        )
    screen.say("looking for Traefik and Prometheus ...")
    programs = await asyncio.to_thread(binaries.find, told.prometheus)
    return Place(
        open=lambda folder: simulated.ground(programs, folder), slow_seconds=TRAEFIK.slow_seconds
    )


async def _tell(story: Story, place: Place, told: Options, screen: Screen, *, keep: bool) -> Result:
    """One story on a stage of its own, so that none sees what another left behind."""
    result: Result | None = None
    policy = story.policy(told.speed, place.slow_seconds)
    rate = story.at_most(told.rate)
    with tempfile.TemporaryDirectory(prefix="switchgear-demo-") as name:
        folder = Path(name)
        try:
            async with stage(place.open(folder), folder, annotations=policy, rate=rate) as scene:
                result = await play(story, scene, screen)
                screen.say(f"{story.name}: {result.outcome} after {result.seconds:.1f} s")
                if result.why:
                    screen.say(f"  {result.why}")
                if keep:
                    screen.say(directions(scene))
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


def directions(scene: Stage) -> str:
    """Where everything is, and what is worth trying."""
    ground = scene.ground
    access = shlex.join(ground.daemon)
    kubectl = f"{binaries.beside_python('kubectl') or 'kubectl'} {access}"
    namespace, app = scene.team.namespace, manifests.APP
    own = f"{sys.executable} -m controller"
    host = f"-H 'Host: {scene.team.host}' " if scene.team.host else ""
    change = (
        # All versions are one image there.
        f"set env deployment/{app} VERSION=v3"
        if scene.team.image
        else f"set image deployment/{app} app=registry.example/{app}:v3"
    )
    return f"""
everything is left up; Ctrl-C ends it
  application   curl -i {host}http://{ground.address}/
  Prometheus    {ground.prometheus}
  daemon        {scene.daemon}
  API server    {scene.api.url}
  logs          {scene.folder}
worth trying
  {kubectl} -n {namespace} get deployments,replicasets,pods,services,httproutes
  {own} status {namespace}/{app} {access} --controller-namespace {ground.system}
  {kubectl} -n {namespace} {change}
  curl -X POST {scene.daemon}/v1/kill
  curl {scene.daemon}/v1/runs
"""


def _conclude(results: Sequence[Result], told: Options, console: Console, screen: Screen) -> None:
    """Table, remarks and report."""
    if isinstance(screen, TerminalView):
        table = Table(*report.COLUMNS)
        for row in report.rows(results):
            table.add_row(*row)
        console.print(table)
    else:
        screen.say(report.plain_table(results))
    for note in report.footnotes(results):
        screen.say(note)
    for remark in report.remarks(results):
        screen.say(f"(!) {remark}")
    if told.report is not None:
        try:
            report.write(told.report, results)
        except OSError as error:
            raise DemoError(f"the report could not be written: {error}") from error
        screen.say(f"report written to {told.report}")
