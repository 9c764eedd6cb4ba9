# SPDX-License-Identifier: Apache-2.0
"""Files and functions stay small enough to be read in one sitting."""

from tests.tidy.tree import ROOT, Source, files, sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def _everything() -> tuple[Source, ...]:
    return sources("controller") + sources("tests")


def test_the_walk_sees_the_house() -> None:
    paths = {source.path for source in _everything()}
    assert "controller/cli/__init__.py" in paths
    assert "tests/tidy/test_sizes.py" in paths


def test_no_file_is_long() -> None:
    long = {s.path: s.text.count("\n") for s in _everything()}
    assert {path: n for path, n in long.items() if n > MAX_FILE_LINES} == {}


def test_no_data_file_of_the_product_is_long() -> None:
    data = [path for path in files() if path.startswith("controller/") and path[-3:] != ".py"]
    assert "controller/sim/apiserver/schema.json" in data
    long = {path: (ROOT / path).read_bytes().count(b"\n") for path in data}
    assert {path: n for path, n in long.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_long() -> None:
    long = [
        f"{source.path}: {function.name} has {size} lines"
        for source in _everything()
        for function in source.functions
        if (size := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    found = [s.path for s in _everything() if s.module.rpartition(".")[2] in drawers]
    assert found == []
