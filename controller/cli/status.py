# SPDX-License-Identifier: Apache-2.0
"""`switchgear status`: one target as a person reads it, straight from the API server."""

from typing import Any

import click

from controller.app.reading import Access
from controller.cli import direct, talk


@click.command("status")
@click.argument("target")
@talk.namespace_option
@talk.output_option
@direct.access_options
def command(
    *,
    target: str,
    namespace: str,
    output: str,
    access: Access,
) -> None:
    """Show TARGET: where its run stands, both tracks, the verdict and the next command."""
    ref = talk.target_of(target, namespace)
    run = direct.latest(access, ref)
    talk.show(run, output, text)


def _since(run: dict[str, Any]) -> str:
    """When that was so: what is expected was expected from then on."""
    return "" if run["outcome"] or not run["why_at"] else f" (as of {run['why_at']})"


def text(run: dict[str, Any]) -> str:
    """The run in a few lines."""
    target = run["target"]
    lines = [
        f"{target['namespace']}/{target['name']}: {run['phase']}"
        + (f" ({run['outcome']})" if run["outcome"] else ""),
        f"  run      {run['name']}, since {run['started_at']}",
        f"  weight   {run['weight_bp'] / 100:g} %  of  {run['ladder']}",
        f"  why      {run['why']}{_since(run)}",
    ]
    verdict = run["verdict"]
    if verdict:
        for track in ("canary", "stable"):
            counts = verdict[track]
            lines.append(f"  {track:8} {counts['errors']} bad of {counts['requests']} requests")
        lines.append(
            f"  evidence 10^{verdict['log10_evidence']} of 10^{verdict['log10_needed']} "
            "for a rollback"
        )
    if run["breaker_open"]:
        lines.append("  breaker  open")
    if run["next"]:
        lines.append(f"  next     {run['next']}")
    return "\n".join(lines)
