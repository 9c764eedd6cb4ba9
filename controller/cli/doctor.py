# SPDX-License-Identifier: Apache-2.0
"""`switchgear doctor`: whether a run would work and what it could see, before the first one."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Final

import click

from controller import readers
from controller.app.reading import Access
from controller.cli import direct, talk
from controller.core.policy.model import Preset

MARKS: Final = {"ok": "ok      ", "warning": "WARNING ", "problem": "PROBLEM "}


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


@click.command("doctor")
@click.argument("target")
@talk.namespace_option
@click.option(
    "--prometheus",
    "--prometheus-url",
    "prometheus_url",
    envvar="SWITCHGEAR_PROMETHEUS",
    callback=_url,
    help="Address of Prometheus, as `switchgear run` is told.",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    envvar="SWITCHGEAR_PROVIDER",
    default=("traefik", "application"),
    show_default=True,
    callback=_providers,
    help="Whose metrics judge where the policy names none, as `switchgear run` is told; "
    "repeatable.",
)
@click.option(
    "--policy",
    "preset",
    type=click.Choice([preset.value for preset in Preset]),
    default=Preset.STANDARD.value,
    show_default=True,
    help="The policy to assume while the Deployment is not annotated.",
)
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
    with _quiet():
        report = talk.ask(lambda: doctor.examine(access, ref, asked))
    talk.show(report, output, _text)
    if not report["ok"]:
        raise SystemExit(talk.NO)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the engine would log is told as a finding; a line of log would break the JSON."""
    import structlog

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


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
