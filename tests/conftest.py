# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: no property is judged by how fast this machine happens to be.

And the one fixture that two rooms share: the cluster of the lane `make test-cluster`.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.cluster.lab.worker import Cluster

settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")

UNTESTED = "NOT TESTED ON A REAL CONTROL PLANE: "


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--lab` belongs to the lane that has a cluster."""
    parser.addoption(
        "--lab",
        action="store_true",
        help="run the contract tests on a real control plane too; see tests/cluster/README.md",
    )


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
        message = f"{UNTESTED}{error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


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
