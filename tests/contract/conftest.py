# SPDX-License-Identifier: Apache-2.0
"""In which worlds a contract test runs: see worlds.py."""

import pytest

from tests.contract import worlds


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The simulated worlds always; the real one where a cluster was promised."""
    if "kind" in metafunc.fixturenames:
        real = (worlds.REAL,) if metafunc.config.getoption("lab") else ()
        metafunc.parametrize("kind", (*worlds.SIMULATED, *real))
