# SPDX-License-Identifier: Apache-2.0
"""Which states of a pod end a run at once."""

from typing import Any

import pytest

from controller.core.evidence.pods import hard_trips
from controller.core.evidence.reasons import Code
from controller.core.observation import Pod


def pod(**facts: Any) -> Pod:
    return Pod(
        **{"name": "checkout-canary-x", "uid": "u", "phase": "Running", "ready": True, **facts}
    )


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"waiting": "CrashLoopBackOff", "restarts": 2}, Code.CRASH_LOOP),
        ({"restarts": 3}, Code.CRASH_LOOP),
        ({"oom_killed": True, "waiting": "CrashLoopBackOff"}, Code.OUT_OF_MEMORY),
        ({"waiting": "ImagePullBackOff", "ready": False}, Code.IMAGE_PULL_ERROR),
        ({"waiting": "CreateContainerConfigError", "ready": False}, Code.CONTAINER_CONFIG_ERROR),
        ({"ready": False, "was_ready": True}, Code.READINESS_LOST),
    ],
)
def test_it_trips(facts: dict[str, Any], code: Code) -> None:
    (reason,) = hard_trips([pod(), pod(**facts)])
    assert reason.code is code
    assert "checkout-canary-x" in reason.message


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"ready": False},
        {"ready": False, "waiting": "ContainerCreating"},
        {"ready": False, "was_ready": True, "deleting": True},
        {"restarts": 1},
    ],
)
def test_it_does_not(facts: dict[str, Any]) -> None:
    assert hard_trips([pod(**facts)]) == ()
