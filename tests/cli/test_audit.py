# SPDX-License-Identifier: Apache-2.0
"""`audit verify` on what kubectl exports: untouched, touched, or no run document at all."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.room import standing, typed
from tests.engine.house import House

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    """The document of a whole run, as the API server has it."""
    return House(standing(outcome="rolled-back", ERROR_RATE="0.5")).documents()[-1]


def _exported(form: str, documents: list[Document]) -> str:
    """As `kubectl get configmap -o yaml` prints one, several, or either as JSON."""
    listed: Document = {"apiVersion": "v1", "kind": "List", "items": documents, "metadata": {}}
    match form:
        case "yaml":
            return str(yaml.safe_dump(documents[0], default_flow_style=False))
        case "yaml list":
            return str(yaml.safe_dump(listed, default_flow_style=False))
        case "yaml stream":
            return str(yaml.safe_dump_all(documents))
        case "json":
            return json.dumps(documents[0], indent=4)
        case _:
            return json.dumps(listed)


FORMS = ["yaml", "yaml list", "yaml stream", "json", "json list"]


@pytest.mark.parametrize("form", FORMS)
def test_an_untouched_document_holds(form: str, document: Document, tmp_path: Path) -> None:
    """Exit 0, with the number of records."""
    file = tmp_path / "run"
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"b": "c"}}
    file.write_text(_exported(form, [document, other]))
    result = typed("audit", "verify", str(file))
    assert result.exit_code == 0, result.output
    count = len(document["data"]["journal"].splitlines())
    name = document["metadata"]["name"]
    assert result.stdout == f"{file}: {name}: {count} records, untouched\n"


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[Document], None]:
    def touch(found: Document) -> None:
        found["data"]["journal"] = "\n".join(change(found["data"]["journal"].split("\n")))

    return touch


def _headless(found: Document) -> None:
    del found["data"]["head"]


TOUCHES: dict[str, Callable[[Document], None]] = {
    "one letter": _lines(lambda lines: [lines[0].replace("begun", "begin"), *lines[1:]]),
    "one dropped": _lines(lambda lines: [*lines[:3], *lines[4:]]),
    "two swapped": _lines(lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]]),
    "cut off": _lines(lambda lines: lines[:-1]),
    "one added": _lines(lambda lines: [*lines, lines[-1]]),
    "all gone": _lines(lambda _: []),
    "no head": _headless,
    "a head that is none": lambda found: found["data"].update(head="[1]"),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
@pytest.mark.parametrize("form", ["yaml", "json list"])
def test_a_touched_document_does_not(
    form: str, touch: Callable[[Document], None], document: Document, tmp_path: Path
) -> None:
    """Exit 1, though the document beside it is untouched, and the place is told."""
    touched = copy.deepcopy(document)
    touch(touched)
    file = tmp_path / "run"
    file.write_text(_exported(form, [touched, document]))
    result = typed("audit", "verify", str(file))
    assert result.exit_code == 1, result.output
    assert "untouched" not in result.stdout.splitlines()[0]
    assert "1 of the documents do not hold" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a: [",
        b"just words",
        b"[1, 2]",
        b"{}",
        b'{"data": ["journal"]}',
        b'{"data": "journal"}',
        b'{"items": ["journal", null, 5]}',
        b'{"items": "journal"}',
        b"\xff\xfe\x00",
        b"[" * 20_000,
    ],
)
def test_what_is_no_run_document_is_wrong_usage(content: bytes, tmp_path: Path) -> None:
    """Exit 2 and one line: an auditor must not take a wrong file for a good one."""
    file = tmp_path / "run"
    file.write_bytes(content)
    result = typed("audit", "verify", str(file))
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    """Exit 2."""
    assert typed("audit", "verify", str(tmp_path / "none")).exit_code == 2
