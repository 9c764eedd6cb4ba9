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
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise talk.fail(f"{file} cannot be read: {error}", 2) from error
    documents = [
        item for part in loaded if isinstance(part, dict) for item in (part.get("items") or [part])
    ]
    found = [_one(item) for item in documents if "journal" in (item.get("data") or {})]
    if not found:
        raise talk.fail(f"{file} holds no run document (a ConfigMap with the key `journal`)", 2)
    return found


def _one(document: dict[str, Any]) -> tuple[str, list[str], int]:
    texts = document["data"]
    lines = str(texts["journal"]).splitlines()
    try:
        told = json.loads(texts["head"])
        head = Head(count=int(told["count"]), hash=str(told["hash"]))
    except (KeyError, ValueError, TypeError):
        name = str((document.get("metadata") or {}).get("name", "?"))
        return name, ["the head is missing or not readable", *chain.verify(lines)], len(lines)
    name = str((document.get("metadata") or {}).get("name", "?"))
    return name, chain.verify(lines, head), len(lines)
