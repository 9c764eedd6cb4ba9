# SPDX-License-Identifier: Apache-2.0
"""`switchgear doctor`: whether a run would work and what it could see, before the first one."""

from typing import Any, Final

import click

from controller.app.reading import Access
from controller.cli import direct, metered, talk

MARKS: Final = {"ok": "ok      ", "warning": "WARNING ", "problem": "PROBLEM "}


@click.command("doctor")
@click.argument("target")
@talk.namespace_option
@metered.prometheus_options
@metered.policy_option
@talk.output_option
@direct.access_options
def command(
    *,
    target: str,
    namespace: str,
    prometheus_url: str,
    providers: tuple[str, ...],
    preset: str,
    output: str,
    access: Access,
) -> None:
    """Examine TARGET, a Deployment that is annotated or will be; nothing is written.

    Exit 0: a run would begin and could be judged. Exit 1: something stands in its way, or there is
    no such Deployment. All of it is told at once, with what to do next.
    """
    from controller.app import doctor

    ref = talk.target_of(target, namespace)
    asked = doctor.Asked(prometheus_url=prometheus_url, providers=providers, preset=preset)
    with metered.quiet():
        report = talk.ask(lambda: doctor.examine(access, ref, asked))
    talk.show(report, output, _text)
    if not report["ok"]:
        raise SystemExit(talk.NO)


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['target']}:"]
    topic = ""
    for finding in report["findings"]:
        if finding["topic"] != topic:
            topic = finding["topic"]
            lines += ["", topic]
        lines.append(f"  {MARKS[finding['level']]}{finding['message']}")
        lines += [f"            {note}" for note in finding["notes"]]
        if finding["advice"]:
            lines.append(f"          -> {finding['advice']}")
    told = "a run would work" if report["ok"] else "a run would not work"
    lines += ["", f"{told}: {_count(report, 'problem')}, {_count(report, 'warning')}"]
    return "\n".join(lines)


def _count(report: dict[str, Any], level: str) -> str:
    number = sum(finding["level"] == level for finding in report["findings"])
    return f"{number} {level}" if number == 1 else f"{number} {level}s"
