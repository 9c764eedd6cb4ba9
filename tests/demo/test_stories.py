# SPDX-License-Identifier: Apache-2.0
"""The declarations: each must be a policy that the product accepts, at every speed."""

import pytest

from controller.core.policy.model import Policy
from controller.core.policy.parse import parse
from controller.core.values import PREFIX
from controller.demo import manifests
from controller.demo.stories import NAMES, STORIES, Story


def test_the_promised_stories_exist() -> None:
    assert NAMES == ("good", "errors", "slow", "crash-loop", "kill", "no-traffic")


@pytest.mark.parametrize("speed", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("story", STORIES, ids=NAMES)
def test_policies_are_valid(story: Story, speed: float) -> None:
    found = parse({PREFIX + key: text for key, text in story.policy(speed).items()})
    assert isinstance(found, Policy), found


def test_speed_divides_dwells_and_leaves_weights() -> None:
    story = Story(
        name="x",
        title="x",
        outcome="promoted",
        annotations={"policy": "fast", "steps": "5@4s,25@10s", "latency": "p99<300ms"},
    )
    assert story.policy(2.0)["steps"] == "5@2s,25@5s"
    assert story.policy(100.0)["steps"] == "5@0.5s,25@0.5s"
    assert story.policy(2.0)["latency"] == "p99<300ms"


def test_a_new_version_leaves_nothing_of_the_old_environment() -> None:
    patch = manifests.new_version("v2", {"ERROR_RATE": "0.5"})
    container = patch["spec"]["template"]["spec"]["containers"][0]
    assert container["image"].endswith(":v2")
    assert {"$patch": "replace"} in container["env"]
