# SPDX-License-Identifier: Apache-2.0
"""What was decided on must be what is written to, and what was counted is counted once."""

import json

import pytest

from controller.core.evidence import judge
from controller.core.evidence.settings import Settings
from controller.core.evidence.tally import Interval, Tally
from controller.sim import clock
from controller.sim.apiserver.request import Request, Response
from tests.engine.house import house

IMAGE = "registry.example/app:v2"


def _raises(request: Request) -> bool:
    """Whether it is a write of ours that gives the canary a share."""
    if request.method != "PATCH" or "/httproutes/" not in request.path:
        return False
    ops = json.loads(request.body)
    return isinstance(ops, list) and any(
        op["path"].endswith("/1/weight") and op.get("value") for op in ops
    )


@pytest.mark.slow
def test_a_route_that_moved_since_it_was_read_is_not_raised() -> None:
    """Another hand comes between our read and our write: the write fails, and is decided anew."""

    async def story() -> None:
        async with house() as found:
            world = found.world
            spoiled: list[int] = []
            answers: list[int] = []

            async def before(request: Request) -> None:
                if _raises(request) and not spoiled:
                    spoiled.append(id(request))
                    notes = {"team": "shop"}
                    world.annotate("shop", "checkout", notes, kind="httproutes")

            async def after(request: Request, response: Response) -> None:
                if id(request) in spoiled:
                    answers.append(response.status)
                    spoiled[:] = [0]

            world.api.before.append(before)
            world.api.after.append(after)
            world.set_image("shop", "checkout", IMAGE)
            await found.ended("promoted")
            assert len(answers) == 1
            assert answers[0] in {409, 422}
            found.at_rest()

    clock.run(story())


def test_an_interval_that_comes_again_changes_nothing() -> None:
    """A scrape is evidence once, however often it is read."""
    settings = Settings(dispersion=1.0, dispersion_known=True)
    bad = Interval(
        at=101.0,
        seconds=1.0,
        canary=Tally(requests=20, errors=10),
        stable=Tally(requests=380, errors=0),
    )
    once = judge.observe(judge.start(settings), settings, bad)
    assert judge.observe(once, settings, bad) == once
    assert once != judge.start(settings)
