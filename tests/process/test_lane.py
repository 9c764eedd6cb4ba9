# SPDX-License-Identifier: Apache-2.0
"""What the lane with a cluster does when there is none, and when something was lost in it once."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.support.realtime import ROOT

pytestmark = pytest.mark.slow

ONE = "tests/cluster/test_lab.py::test_pods_become_ready_and_answer"
FLAKY = """
from pathlib import Path

import pytest


{mark}
def test_fails_once() -> None:
    seen = Path(__file__).with_name("seen")
    first = not seen.exists()
    seen.touch()
    assert not first
"""


async def _python(*args: str, folder: Path = ROOT, **environment: str) -> tuple[int, str]:
    """Exit status and words of a program of this environment that finds no lab in the cache."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *args),
        cwd=folder,
        # What these tests run in may be a lane itself.
        env={**os.environ, "CI": "", "PYTEST_ADDOPTS": "", "PYTHONPATH": str(ROOT), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 90.0)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_without_a_lab_the_tests_are_left_out_loudly_and_fail_in_ci(tmp_path: Path) -> None:
    run = ("pytest", "-p", "no:cacheprovider", "--lab", ONE)
    cache = str(tmp_path)
    status, said = await _python(*run, XDG_CACHE_HOME=cache)
    assert status == 0, said
    assert "the cluster's tests did not run" in said
    assert "1 tests of tests/cluster/test_lab.py" in said
    assert "because: controlplane: not built yet" in said

    status, said = await _python(*run, XDG_CACHE_HOME=cache, CI="true")
    assert status == 1, said
    assert "NOT TESTED ON A REAL CONTROL PLANE" in said


async def test_without_a_lab_the_bench_has_not_measured(tmp_path: Path) -> None:
    status, said = await _python("tests.bench", "cluster", XDG_CACHE_HOME=str(tmp_path))
    assert status == 1
    assert "not measured for want of a lab" in said


@pytest.mark.parametrize(("mark", "status"), [("@pytest.mark.once", 1), ("", 0)])
async def test_a_second_try_mends_nothing_that_was_lost(
    mark: str, status: int, tmp_path: Path
) -> None:
    """Also where it passes; what is not about losses is mended by it."""
    (tmp_path / "test_flaky.py").write_text(FLAKY.format(mark=mark))
    (tmp_path / "pytest.ini").touch()
    run = ("pytest", "-n", "1", "-p", "tests.conftest", "-p", "tests.cluster.conftest", "-rap")
    first, said = await _python(*run, "--cache-clear", folder=tmp_path)
    assert first == 1, said
    assert ("LOST" in said) is bool(status)
    second, said = await _python(*run, "--last-failed", folder=tmp_path)
    assert second == status, said
    assert "1 passed" in said
    assert ("LOST requests or records, in one of two tries" in said) is bool(status)
