# SPDX-License-Identifier: Apache-2.0
"""`switchgear backtest`: what the policy would have done in the last days, on the target itself."""

from pathlib import Path
from typing import Any

import click

from controller.app.reading import Access
from controller.cli import direct, metered, talk
from controller.core import errors
from controller.core.backtest import page, words
from controller.core.values import TargetRef

INSTALL = (
    "backtest reads history with a library that is not installed: "
    "pip install 'switchgear[backtest]'"
)


@click.command("backtest")
@click.argument("target")
@talk.namespace_option
@metered.prometheus_options
@metered.policy_option
@click.option(
    "--days",
    type=click.FloatRange(0.01, 90.0),
    default=7.0,
    show_default=True,
    help="How far to go back.",
)
@click.option(
    "--html",
    "drawing",
    type=talk.NEW_FILE,
    help="Also write it into this file, as one page with charts.",
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
    days: float,
    drawing: Path | None,
    output: str,
    access: Access,
) -> None:
    """Try TARGET's policy on TARGET's own history: false rollbacks, time to detect and to promote.

    Pods of the running version play the canary in windows of the past, as they were and with
    regressions put in, before the same judge and gates as a run. Nothing is written. Exit 1: there
    is too little history, no such Deployment, or nothing that is judged.
    """
    try:
        from controller.app import backtest
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("controller"):
            raise
        raise talk.fail(INSTALL, talk.NO) from error
    metered.needed(prometheus_url)
    ref = talk.target_of(target, namespace)
    asked = backtest.Asked(
        prometheus_url=prometheus_url, providers=providers, preset=preset, days=days
    )

    async def rehearsed(where: TargetRef) -> dict[str, Any]:
        try:
            return await backtest.rehearse(access, where, asked)
        except errors.MetricsUnavailable as error:
            raise talk.fail(error.diagnostics(), talk.UNREACHED) from error

    with metered.quiet():
        report = talk.ask(lambda: rehearsed(ref))
    if drawing is not None:
        talk.write(drawing, page.page(report), "page")
    talk.show(report, output, words.text)
