# SPDX-License-Identifier: Apache-2.0
"""`switchgear checks`: what the checks of a target say now, before a run depends on them."""

from typing import Any, Final

import click

from controller.app.reading import Access
from controller.cli import direct, metered, talk

SAYS: Final = {"holds": "holds", "fails": "does not hold", "none": "no data"}


@click.group("checks")
def command() -> None:
    """Try the conditions by which a target is judged."""


@command.command("test")
@click.argument("target", metavar="NAME")
@talk.namespace_option
@metered.prometheus_options
@talk.output_option
@direct.access_options
def test(
    *,
    target: str,
    namespace: str,
    prometheus_url: str,
    providers: tuple[str, ...],
    output: str,
    access: Access,
) -> None:
    """Ask each check of the Deployment NAME, of stable and of a canary that runs.

    Shown are the query as it is sent, its value now, how many requests stand behind it and what it
    would say. Nothing is written. Exit 0: all hold. Exit 1: one does not hold, has no data or
    cannot be read. Exit 3: the cluster or Prometheus was not reached.
    """
    from controller.app.doctor import trying
    from controller.core import errors

    metered.needed(prometheus_url)
    ref = talk.target_of(target, namespace)

    async def asked() -> dict[str, Any]:
        try:
            return await trying.examine(access, ref, prometheus_url, providers)
        except errors.MetricsUnavailable as error:
            message = f"Prometheus gave no answer: {error.diagnostics()}"
            raise talk.fail(message, talk.UNREACHED) from error

    with metered.quiet():
        report = talk.ask(asked)
    talk.show(report, output, _text)
    if not report["ok"]:
        raise SystemExit(talk.NO)


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['target']}: policy {report['policy']}"]
    lines += [f"  {note}" for note in report["notes"]]
    for check in report["checks"]:
        readers = f" ({', '.join(check['readers'])})" if check["readers"] else ""
        lines += ["", f"{check['name']}{readers}: {check['text']}"]
        for problem in check["problems"]:
            lines.append(f"  PROBLEM {problem['message']}")
            if problem["hint"]:
                lines.append(f"       -> {problem['hint']}")
        for track in check["tracks"]:
            lines.append(f"  {track['track']:<8}{SAYS[track['says']]:<15}{track['why']}".rstrip())
            lines += [f"          {query}" for query in track["queries"]]
    told = "every check holds" if report["ok"] else "not every check holds"
    return "\n".join([*lines, "", told])
