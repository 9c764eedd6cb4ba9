# SPDX-License-Identifier: Apache-2.0
"""What the judge refuses to be told, and the words it uses."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.core.evidence.reasons import Code, Reason, counted, percent, seconds
from controller.core.evidence.settings import Limits, Settings, restart_rate


@pytest.mark.parametrize(
    "wrong",
    [{"alpha": 0.0}, {"tolerance": 0.9}, {"margin": -1.0}, {"dispersion": 0.5},
     {"cap_scrapes": 0}, {"min_requests": 0}, {"min_stable_requests": -1}, {"restart_rate": 0.0}],
)  # fmt: skip
def test_settings_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"max_error_rate": 1.0}, {"latency": ((0.0, 0.1),)}, {"latency": ((0.1, -0.1),)},
     {"latency": ((0.1, 0.1),) * 4}],
)  # fmt: skip
def test_limits_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="limit"):
        Limits(**wrong)


def test_the_restart_rate_follows_the_length_of_the_run() -> None:
    assert restart_rate(0) == 1 / 64
    assert restart_rate(512) == 1 / 256
    assert restart_rate(10**6) == 1 / 1024


def test_words() -> None:
    assert percent(None) == "no requests"
    assert percent(0.00042) == "0.042 %"
    assert counted(0, 0, "errors") == "no requests, errors (0 of 0)"
    assert (seconds(0.2), seconds(300), seconds(9000)) == ("about 1 s", "about 5 min", "about 2 h")


def test_a_reason_stands_in_canonical_json() -> None:
    reason = Reason(check="errors", code=Code.FAST_TRIP, message="m", canary_value=0.5, n=3)
    assert reason.to_json() == {
        "check": "errors", "code": "FastTrip", "message": "m", "canary": "0.5", "n": 3,
    }  # fmt: skip
    assert "n" not in replace(reason, n=None).to_json()
