# SPDX-License-Identifier: Apache-2.0
"""The long matrices are played in parts, and no part is left out for long."""

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import DEEP_PARTS
from tests.tidy.tree import ROOT

CASES = 60

MATRIX = f"""
import pytest

@pytest.mark.deep
@pytest.mark.parametrize("n", range({CASES}))
def test_deep(n): pass

def test_always(): pass
"""

pytestmark = pytest.mark.slow


def _git(folder: Path, *args: str) -> None:
    nobody = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
    apart = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *nobody, *args], cwd=folder, env=apart, check=True, capture_output=True)


def _commit(folder: Path, count: int = 1) -> None:
    for _ in range(count):
        _git(folder, "commit", "--allow-empty", "--message=work")


def _played(folder: Path, *options: str) -> set[str]:
    """The tests that would run on what is checked out."""
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", *options],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return {line for line in told.stdout.splitlines() if line.startswith("test_matrix.py::")}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose tests are one matrix."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "tests/conftest.py", folder)
    (folder / "test_matrix.py").write_text(MATRIX, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  deep: long\n", encoding="utf-8")
    _git(folder, "init", "--initial-branch=main")
    _git(folder, "add", ".")
    _commit(folder)
    return folder


def test_so_many_commits_in_a_row_play_everything_whatever_was_merged(checkout: Path) -> None:
    """A branch with as many commits as there are parts would bring the same part again."""
    parts = []
    for nth in range(DEEP_PARTS):
        if nth % 2:
            _commit(checkout)
        else:
            _git(checkout, "switch", "--create", f"branch-{nth}")
            _commit(checkout, DEEP_PARTS - 1)
            _git(checkout, "switch", "main")
            _git(checkout, "merge", "--no-ff", f"branch-{nth}")
        parts.append(_played(checkout, "--some"))
    everything = _played(checkout)
    assert len(everything) == CASES + 1
    assert set.union(*parts) == everything
    always = {"test_matrix.py::test_always"}
    assert all(one & other == always for one, other in pairwise(parts))


def test_a_shallow_clone_plays_some_part(checkout: Path, tmp_path: Path) -> None:
    _commit(checkout, 3)
    _git(tmp_path, "clone", "--depth=1", checkout.as_uri(), "shallow")
    played = _played(tmp_path / "shallow", "--some")
    assert 1 < len(played) < CASES
