# SPDX-License-Identifier: Apache-2.0
"""What a person sees while a story goes on: redrawn in place on a terminal, else plain lines."""

import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from controller.core.journal.story import sentence
from controller.demo.counts import total
from controller.demo.measure import WHOLE_BP
from controller.demo.play import Scene, last_words
from controller.demo.stories import FIRST, SECOND

JOURNAL_LINES = 8
RECENT_SECONDS = 2.0
_WHOLE = {"Committing", "Rolling", "HandingBack", "Restoring"}
"""Phases in which the new version serves everything, whatever the route's weights say."""
_COLOURS = {"PASS": "green", "FAIL": "red", "HOLD": "yellow"}


def share_text(weight_bp: int) -> str:
    """Basis points as people say them: `2.5 %`."""
    return f"{weight_bp / 100:g} %"


def ladder(scene: Scene) -> list[tuple[str, bool]]:
    """The rungs with the present one marked; the whole comes last."""
    steps = [step["weight_bp"] for step in scene.run.get("steps") or ()]
    promoted = scene.run.get("outcome") == "promoted"
    now = WHOLE_BP if scene.run.get("phase") in _WHOLE or promoted else scene.weights.now_bp
    rungs = sorted({0, *steps, WHOLE_BP})
    at = max((rung for rung in rungs if rung <= now), default=0)
    return [(share_text(rung), rung == at) for rung in rungs]


def tracks(scene: Scene) -> list[tuple[str, ...]]:
    """Both versions: answers and bad ones, of late and altogether."""
    now = time.time()
    recent = list(scene.seen.between(now - RECENT_SECONDS, now))
    found: list[tuple[str, ...]] = []
    for name, version in (("stable", FIRST), ("canary", SECOND)):
        late, ever = total(recent, version), total(scene.seen.slots, version)
        found.append(
            (
                f"{name} {version}",
                f"{late.total / RECENT_SECONDS:.0f}/s",
                f"{ever.total:,}",
                f"{ever.bad:,}",
                f"{ever.bad / ever.total:.1%}" if ever.total else "-",
                f"{ever.slow:,}",
            )
        )
    return found


def record_text(record: dict[str, Any]) -> str:
    """One journal record as a line."""
    return f"{record['at'][11:23]}  {record['kind']:<9} {sentence(record.get('body') or {})}"


class TerminalView:
    """Redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None

    def draw(self, scene: Scene) -> None:
        """Show the scene; the last picture of a story stays."""
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(picture(scene), refresh=True)

    def close(self) -> None:
        """Give the screen back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.close()
        self.console.print(text, markup=False, highlight=False)


def picture(scene: Scene) -> Panel:
    """The whole scene."""
    line = Text("  ")
    for number, (rung, here) in enumerate(ladder(scene)):
        line.append("  >  " if number else "", style="dim")
        line.append(f"[{rung}]" if here else rung, style="bold reverse" if here else "dim")
    table = Table("track", "now", "answers", "errors", "share", "slow", box=None, padding=(0, 2))
    for row in tracks(scene):
        table.add_row(*row)
    verdict = scene.run.get("verdict") or {}
    outcome = str(verdict.get("outcome") or "-").upper()
    words = Text.assemble(
        "  ", (outcome, _COLOURS.get(outcome, "dim")), f"  {last_words(scene.run)}"
    )
    records = Text(
        "\n".join(f"  {record_text(record)}" for record in scene.journal[-JOURNAL_LINES:]),
        style="dim",
        no_wrap=True,
        overflow="ellipsis",
    )
    failed = scene.seen.failed
    passed = 0.0 if scene.started is None else time.time() - scene.started
    phase = scene.run.get("phase", "waiting for the change")
    below = f"{passed:.1f} s   {phase}   failed by shifting: {failed}"
    return Panel(
        Group(line, Text(), table, Text(), words, Text(), records),
        title=f"{scene.story.name}: {scene.story.title}",
        subtitle=below,
        title_align="left",
        subtitle_align="left",
    )


class PlainView:
    """Lines, each when something is new: for pipes, logs and CI."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._told = 0
        self._story = ""

    def draw(self, scene: Scene) -> None:
        """Print what has happened since the last time."""
        if scene.story.name != self._story:
            self._story, self._told = scene.story.name, 0
            self.say(f"{scene.story.name}: {scene.story.title}")
        for line in self._news(scene):
            self.say(f"  {line}")

    def _news(self, scene: Scene) -> Iterator[str]:
        journal = scene.journal
        fresh, self._told = journal[self._told :], len(journal)
        for record in fresh:
            yield record_text(record)
            if record["kind"] == "decision":
                figures = [f"{row[0]}: {row[2]} answers, {row[3]} errors" for row in tracks(scene)]
                rungs = " ".join(f"[{rung}]" if here else rung for rung, here in ladder(scene))
                yield f"              {rungs}   {'; '.join(figures)}"

    def say(self, text: str) -> None:
        """Print a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""
