# SPDX-License-Identifier: Apache-2.0
"""What the lane with a cluster does when there is none, and when something was lost in it once."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cluster.lab import build
from tests.support.realtime import ROOT, until

pytestmark = pytest.mark.slow

ONE = "tests/cluster/test_lab.py::test_pods_become_ready_and_answer"
CONTRACT = (
    "tests/contract/test_api_lists.py::test_a_list_is_sorted_by_name_and_has_one_version[real]"
)
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

LATE = """
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def load() -> Iterator[None]:
    yield
    seen = Path(__file__).with_name("seen")
    first = not seen.exists()
    seen.touch()
    assert not first


{mark}
def test_sent_too_little_once(load: None) -> None:
    assert load is None
"""

UNTOLD = """
from pathlib import Path

import pytest

from tests.cluster.conftest import Lab


class Trail:
    async def holds(self) -> None:
        seen = Path(__file__).with_name("seen")
        first = not seen.exists()
        seen.touch()
        assert not first


@pytest.fixture
def lab() -> Lab:
    return Lab(cluster=None, api=None, folder=Path(), stack=None, trails=[Trail()])


def test_leaves_no_record_once(lab: Lab) -> None:
    assert lab.trails
"""

REFUSED = """
import ctypes, os, sys

PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""A Python to which no network namespace is given, also where it is root."""

NO_NETWORK = "no network namespace (Operation not permitted). Run as root, or where user namespaces"


async def _python(*args: str, folder: Path = ROOT, **environment: str) -> tuple[int, str]:
    """Exit status and words of a program of this environment that finds no lab in the cache."""
    return await _run("-m", *args, folder=folder, **environment)


async def _run(*args: str, folder: Path = ROOT, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *args),
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


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cache with what looks like a lab that has been built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for path in (build.controlplane(), build.definitions()):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(tmp_path)


@pytest.mark.parametrize("ci", [False, True])
async def test_without_a_network_the_tests_are_left_out_loudly_and_fail_in_ci(
    built: str, *, ci: bool
) -> None:
    run = ("-m", "pytest", "-p", "no:cacheprovider", "--lab", ONE, CONTRACT)
    told = "true" if ci else ""
    status, said = await _run("-c", REFUSED, *run, XDG_CACHE_HOME=built, CI=told)
    if ci:
        assert status == 1, said
        assert "1 failed, 1 error" in said
        assert f"NOT TESTED ON A REAL CONTROL PLANE: {NO_NETWORK}" in said
        return
    assert status == 0, said
    assert "2 skipped" in said
    assert "the cluster's tests did not run" in said
    assert "2 tests of tests/cluster/test_lab.py, tests/contract/test_api_lists.py" in said
    assert f"because: {NO_NETWORK}" in said


async def test_the_lab_by_hand_says_in_one_line_why_it_cannot_be(built: str) -> None:
    up = ("-m", "tests.cluster.lab", "up", f"{built}/folder")
    status, said = await _run("-c", REFUSED, *up, XDG_CACHE_HOME=built)
    assert status == 1
    assert said.startswith(NO_NETWORK)
    assert said.count("\n") == 1, said


async def test_without_a_toolchain_nothing_is_built_and_it_is_said(tmp_path: Path) -> None:
    """Neither Go nor a registry that has it."""
    status, said = await _python(
        *("tests.cluster.lab", "build"),
        XDG_CACHE_HOME=str(tmp_path),
        PATH="/nowhere",
        PIP_INDEX_URL="http://127.0.0.1:9/",
        PIP_EXTRA_INDEX_URL="",
        PIP_RETRIES="0",
    )
    assert status == 1
    assert "controlplane: no Go toolchain: put Go " in said
    assert "Traceback" not in said


async def test_without_a_lab_the_bench_has_not_measured(tmp_path: Path) -> None:
    status, said = await _python("tests.bench", "cluster", XDG_CACHE_HOME=str(tmp_path))
    assert status == 1
    assert "not measured for want of a lab" in said


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (FLAKY.format(mark="@pytest.mark.once"), 1),
        (FLAKY.format(mark=""), 0),
        (LATE.format(mark="@pytest.mark.once"), 1),
        (LATE.format(mark=""), 0),
        (UNTOLD, 1),
    ],
    ids=["once", "mended", "once-at-its-end", "mended-at-its-end", "trail"],
)
async def test_a_second_try_mends_nothing_that_was_lost(
    text: str, status: int, tmp_path: Path
) -> None:
    """Also where it passes; what is not about losses is mended by it."""
    (tmp_path / "test_flaky.py").write_text(text)
    (tmp_path / "pytest.ini").touch()
    run = ("pytest", "-n", "1", "-p", "tests.conftest", "-p", "tests.cluster.conftest", "-rap")
    first, said = await _python(*run, "--cache-clear", folder=tmp_path)
    assert first == 1, said
    assert ("LOST" in said) is bool(status)
    second, said = await _python(*run, "--last-failed", folder=tmp_path)
    assert second == status, said
    assert "1 passed" in said
    assert ("LOST requests or records, in one of two tries" in said) is bool(status)


LASTING = """#!/bin/sh
case "$*" in *build*) exit 0 ;; esac
echo $$ >> {seen}
exec sleep 600
"""
"""Stands for pytest, which would take half an hour."""


async def test_both_lanes_end_with_make(tmp_path: Path) -> None:
    """TERM goes to make alone, as from a supervisor; to a group it goes from a terminal."""
    seen, program = tmp_path / "seen", tmp_path / "python"
    # In a folder of its own: the recipe's log may be somebody's whose lanes are these.
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    program.write_text(LASTING.format(seen=seen))
    program.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    process = await asyncio.create_subprocess_exec(
        *("make", "test", f"BIN={tmp_path}", f"READY={program}"),
        cwd=tmp_path,
        env={**environment, "MFLAGS": ""},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    pids: list[int] = []

    def both() -> bool:
        pids[:] = [int(line) for line in seen.read_text().split()] if seen.exists() else []
        return len(pids) == 2

    try:
        await until(both, 30.0, "both lanes")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20.0) != 0
        await until(lambda: not any(_lives(pid) for pid in pids), 10.0, "both lanes end")
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
