# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: no property is judged by how fast this machine happens to be.

And the one fixture that two rooms share: the cluster of the lane `make test-cluster`.
"""

import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.untested import UNTESTED, untested

if TYPE_CHECKING:
    from tests.cluster.lab.worker import Cluster

settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")

DEEP_PARTS = 8
"""Of the long matrices each commit plays one part, and the next one the next part."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--lab` belongs to the lane that has a cluster."""
    parser.addoption(
        "--lab",
        action="store_true",
        help="run the contract tests on a real control plane too; see tests/cluster/README.md",
    )
    parser.addoption(
        "--some",
        action="store_true",
        help=f"of the tests marked deep run one in {DEEP_PARTS}, in turn by the commit",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Whoever is told to end by TERM ends as by Ctrl-C: with a summary, and with its workers.

    What a shell starts beside itself does not hear Ctrl-C at all.
    """
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _part() -> int:
    """The part of the deep tests that is this commit's; of no commit it is the first.

    Commits are counted along the first parents, so that on a branch into which others are merged
    the parts go round, whatever was merged. A shallow clone has no number for its commit: there
    the hash draws.
    """
    if _git("rev-parse", "--is-shallow-repository") == "true":
        return int(_git("rev-parse", "--short=8", "HEAD"), 16) % DEEP_PARTS
    return int(_git("rev-list", "--count", "--first-parent", "HEAD") or "0") % DEEP_PARTS


def _git(*args: str) -> str:
    """What git says of this checkout; nothing where there is none."""
    told = subprocess.run(
        ["git", "-c", "safe.directory=*", *args],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which of the deep tests are meant."""
    if not config.getoption("--some"):
        return []
    return [
        f"deep tests: part {_part() + 1} of {DEEP_PARTS}, in turn by the commit; DEEP=1 runs all"
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is another commit's."""
    if not config.getoption("--some"):
        return
    part = _part()
    left_out = [
        item
        for item in items
        if item.get_closest_marker("deep") and zlib.crc32(item.nodeid.encode()) % DEEP_PARTS != part
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    """A Kubernetes of this worker's own, in a network of its own; made by the first who asks.

    Where it cannot be had the tests that need it are left out, loudly; in CI they fail.
    """
    from tests.cluster.lab import toolchain, worker

    try:
        with worker.cluster(tmp_path_factory.mktemp("lab")) as found:
            yield found
    except toolchain.Unavailable as error:
        untested(error)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was left out for want of a cluster is said again where nobody overlooks it."""
    left_out = [
        (report.nodeid, str(report.longrepr[2]))
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and UNTESTED in report.longrepr[2]
    ]
    if left_out:
        terminalreporter.section("the cluster's tests did not run", sep="!", red=True, bold=True)
        files = sorted({nodeid.partition("::")[0] for nodeid, _ in left_out})
        reasons = sorted({reason.partition(UNTESTED)[2] for _, reason in left_out})
        terminalreporter.line(f"{len(left_out)} tests of {', '.join(files)}")
        for reason in reasons:
            terminalreporter.line(f"because: {reason}")
