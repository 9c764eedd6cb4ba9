# SPDX-License-Identifier: Apache-2.0
"""In which worlds a contract test runs: see worlds.py."""

import pytest

from tests.contract import worlds
from tests.support.world import REAL


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The real world has a lane of its own, whose workers stand in networks of their own."""
    if "kind" in metafunc.fixturenames:
        lab = metafunc.config.getoption("lab")
        metafunc.parametrize("kind", (REAL,) if lab else worlds.SIMULATED)
