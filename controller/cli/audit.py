# SPDX-License-Identifier: Apache-2.0
"""`switchgear audit verify`: is an exported run document untouched? Works offline."""

import json
from pathlib import Path
from typing import Any

import click
import yaml

from controller.cli import talk
from controller.core.journal import chain
from controller.core.journal.chain import Head


@click.group("audit")
def command() -> None:
    """Prove what happened, from the journal alone."""


@command.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def verify(files: tuple[Path, ...]) -> None:
    """Check exported run documents (`kubectl get configmap RUN -o yaml`) for any change.

    Finds records that were changed, dropped, added, moved or cut off. Exit 0: untouched.
    """
    bad = 0
    for file in files:
        for name, problems, count in _verified(file):
            if problems:
                bad += 1
            words = "untouched" if not problems else "; ".join(problems)
            click.echo(f"{file}: {name}: {count} records, {words}")
    if bad:
        raise talk.fail(f"{bad} of the documents do not hold", talk.NO)


def _verified(file: Path) -> list[tuple[str, list[str], int]]:
    try:
        loaded = list(yaml.safe_load_all(file.read_text()))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise talk.fail(f"{file} cannot be read: {why}", talk.USAGE) from error
    found = [_one(item) for part in loaded for item in _documents(part)]
    if not found:
        message = f"{file} holds no run document (a ConfigMap with the key `journal`)"
        raise talk.fail(message, talk.USAGE)
    return found


def _documents(part: object) -> list[dict[str, Any]]:
    """The run documents in an object, or in the List that kubectl makes of several."""
    if not isinstance(part, dict):
        return []
    items = part.get("items")
    found = items if isinstance(items, list) else [part]
    return [
        item
        for item in found
        if isinstance(item, dict)
        and isinstance(item.get("data"), dict)
        and "journal" in item["data"]
    ]


def _one(document: dict[str, Any]) -> tuple[str, list[str], int]:
    texts, metadata = document["data"], document.get("metadata")
    name = str(metadata.get("name", "?")) if isinstance(metadata, dict) else "?"
    lines = chain.lines_of(str(texts["journal"]))
    try:
        told = json.loads(texts["head"])
        head = Head(count=int(told["count"]), hash=str(told["hash"]))
    except (KeyError, ValueError, TypeError):
        return name, ["the head is missing or not readable", *chain.verify(lines)], len(lines)
    return name, chain.verify(lines, head), len(lines)
