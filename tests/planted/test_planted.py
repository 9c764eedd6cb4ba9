# SPDX-License-Identifier: Apache-2.0
"""The net itself: every planted bug is caught by the tests that are named for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted.plants import PLANTS, Plant

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 240
"""Deadline of one run of the named tests."""


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS + 30)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_the_planted_bug_is_caught(plant: Plant, tmp_path: Path) -> None:
    """The named tests fail on the copy with the bug (they pass on the code as it is)."""
    for folder in ("controller", "tests", "docs"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = tmp_path / plant.file
    text = file.read_text()
    assert text.count(plant.right) == 1, "the place to plant the bug is not there any more"
    file.write_text(text.replace(plant.right, plant.wrong))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *plant.tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert done.returncode == 1, f"not caught:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
