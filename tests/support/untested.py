# SPDX-License-Identifier: Apache-2.0
"""What cannot be tried on this machine is left out aloud, and with `CI=true` it fails."""

import os
from typing import Final, NoReturn

import pytest

UNTESTED: Final = "NOT TESTED ON A REAL CONTROL PLANE: "
"""What the reasons begin with that pytest's report repeats at its end (`tests/conftest.py`)."""


def untested(why: object) -> NoReturn:
    """Leave out the test that is running, or all that ask for the fixture that is being made."""
    message = f"{UNTESTED}{why}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
