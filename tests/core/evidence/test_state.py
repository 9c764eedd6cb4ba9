# SPDX-License-Identifier: Apache-2.0
"""What stands in a run's document of its judge: all that a policy may ask for, in 4,096 bytes."""

import json
import math
import random

from controller.adapters.prometheus.saturation import Saturation
from controller.core.evidence import latency
from controller.core.evidence.eprocess import Process
from controller.core.evidence.excess import Excess
from controller.core.evidence.judge import (
    Evidence,
    Gate,
    Outcome,
    Settings,
    judge,
    observe,
    start,
    weight_changed,
)
from controller.core.evidence.measures import (
    FAILING,
    Assertion,
    Comparison,
    Gauge,
    Noted,
    Reading,
    Value,
)
from controller.core.evidence.readings import read
from controller.core.evidence.safe import Proof, Timely
from controller.core.evidence.settings import Limits
from controller.core.evidence.state import Trip, Window
from controller.core.evidence.tally import Interval, Tally
from controller.core.policy.promql import MAX_CHECKS

BEGIN = 1_790_000_000.123
SCRAPES = 400
REQUESTS = 5_000_000
"""Of the canary in a scrape: a thousand million and more in a window."""

BOUNDS = (*(0.001 * 1.37**power for power in range(24)), math.inf)
"""As a library computes them, with all digits that a float has."""

NAMES = [8 * "orders-" + str(number) for number in range(MAX_CHECKS)]
"""As long as an annotation may be called."""

ITEMS = Saturation().items

FULL = Settings(
    # A limit so small has all alternatives, and no bound that stands for one is compared at.
    limits=Limits(
        max_error_rate=0.01,
        latency=((BOUNDS[4], 0.01), (BOUNDS[8], 0.005), (BOUNDS[18], 0.001)),
    ),
    past=tuple((bound, REQUESTS * place) for place, bound in enumerate(BOUNDS, 1)),
    assertions=tuple(
        Assertion(name=name, comparison=Comparison.BELOW, limit=1.0, window_seconds=60.0)
        for name in NAMES
    ),
    gauges=tuple(Gauge(name=item.name, usual=0.4, floor=item.floor) for item in ITEMS),
)


def noisy(source: random.Random, requests: int) -> Tally:
    """A scrape whose every count is another one than that of the last."""
    total = round(requests * source.uniform(0.7, 1.3))
    slow = [total * source.uniform(0.99, 1.01) * 0.7**place for place in range(1, len(BOUNDS))]
    buckets = [(bound, total - round(count)) for bound, count in zip(BOUNDS, slow, strict=False)]
    return Tally(
        requests=total,
        errors=round(total * source.uniform(0.0009, 0.0011)),
        buckets=(*buckets, (math.inf, total)),
    )


def everything() -> Evidence:
    """The state after a long run that was not always healthy, up to its end by a team's check."""
    source, end = random.Random(7), BEGIN + 5.0 * SCRAPES
    state = weight_changed(start(FULL), BEGIN)
    for scrape in range(1, SCRAPES + 1):
        at = BEGIN + 5.0 * scrape + source.uniform(-0.01, 0.01)
        canary, stable = noisy(source, REQUESTS), noisy(source, 9 * REQUESTS)
        state = observe(state, FULL, Interval(at=at, seconds=5.0, canary=canary, stable=stable))
        # In the last minutes all that is measured is on the wrong side.
        least = 10.0 if at > end - 600 else 0.0
        for assertion in FULL.assertions:
            value = Value(
                name=assertion.title, canary=least + source.random(), stable=source.random()
            )
            state = read(state, FULL, Reading(at=at, values=(value,)))
        gauges = [
            Value(name=item.name, canary=least + source.random() / 7, stable=source.random() / 7e6)
            for item in ITEMS
        ]
        state = read(state, FULL, Reading(at=at, values=tuple(gauges)))
    return state


def test_everything_at_once_fits_after_a_long_run_and_survives_a_restart() -> None:
    state = everything()
    slower = len((*latency.SCALES, *latency.TAILS, *latency.HANGS))
    bets = [8, 8, *[len(FAILING)] * (MAX_CHECKS + 1), 8, 8, 8, slower]
    assert [len(process.bets) for process in state.processes] == bets
    assert len(state.bounds) == len(state.past) == latency.MOST_CELLS
    assert not {*state.bounds} & {*state.limit_bounds}
    for tally in (state.window.canary, state.window.stable):
        assert tally.requests > 1_000_000_000
        assert len(tally.buckets) == latency.MOST_CELLS + len(state.limit_bounds)
    assert len(state.noted) == MAX_CHECKS + len(ITEMS)
    assert all(noted.bad for noted in state.noted)
    assert state.trip is not None
    text = json.dumps(state.to_json(), separators=(",", ":"))
    assert len(text) <= 4096
    back = Evidence.from_json(json.loads(text))
    assert back == state
    gate = Gate(dwell_seconds=60.0, proven=True)
    verdicts = [judge(one, FULL, state.last_at, gate=gate) for one in (state, back)]
    assert verdicts[0] == verdicts[1]
    assert verdicts[0].outcome is Outcome.FAIL


SMALL = Evidence(
    fast=Process(bets=(0.5,), scale=-0.25, cash=-1.5),
    processes=(Process(bets=(2.0, 0.0), scale=0.0, cash=-2.0),),
    bounds=(0.1, math.inf),
    limit_bounds=(0.0,),
    past=(3, 4),
    level=0.75,
    window=Window(
        at=5.0,
        seconds=6.0,
        canary=Tally(
            requests=7, errors=1, buckets=((0.1, 2), (math.inf, 7)), reported=True, scrapes=2,
            falls=1,
        ),
        stable=Tally(requests=8, errors=0, reported=False),
    ),
    recent=(1.0, 2.0, 3.0, 4.0),
    last_at=9.0,
    canary_at=10.0,
    canary_timed_at=9.5,
    trip=Trip(
        check="check orders", fast=True, at=11.0, canary=(1, 2), stable=(3, 4), log_evidence=12.0,
        bound=0.1,
    ),
    proof=Proof(sums=(0.5, 0.25), requests=13.0, open=(1, 2, 3)),
    timely=(Timely(seconds=0.1, slow=1.0, requests=2.0),),
    excess=Excess(sums=(1.0,), owed=(2.0,)),
    noted=(Noted(), Noted(at=14.0, canary=0.5, bad=True)),
    trials=(15.0,),
)  # fmt: skip

WRITTEN = {
    "v": 7,
    "fields": [
        [["AAAAAAAA4D8="], "AAAAAAAA0L8AAAAAAAD4vw=="],
        [[["AAAAAAAAAEAAAAAAAAAAAA=="], "AAAAAAAAAAAAAAAAAAAAwA=="]],
        ["mpmZmZmZuT8AAAAAAADwfw=="],
        ["AAAAAAAAAAA="],
        [3, 4],
        "AAAAAAAA6D8=",
        [
            "AAAAAAAAFEAAAAAAAAAYQA==",
            [7, 1, {"columns": [["mpmZmZmZuT8AAAAAAADwfw=="], [2, 7]]}, True, 2, 1],
            [8, 0, [], False, 0, 0],
        ],
        ["AAAAAAAA8D8AAAAAAAAAQAAAAAAAAAhAAAAAAAAAEEA="],
        "AAAAAAAAIkAAAAAAAAAkQAAAAAAAAPD/AAAAAAAAI0AAAAAAAADw/wAAAAAAAPD/",
        [
            {"text": "check orders"}, True, "AAAAAAAAJkA=", [1, 2], [3, 4],
            "AAAAAAAAKECamZmZmZm5Pw==",
        ],
        [["AAAAAAAA4D8AAAAAAADQPw=="], "AAAAAAAAKkA=", [1, 2, 3]],
        [["mpmZmZmZuT8AAAAAAADwPwAAAAAAAABA"]],
        [["AAAAAAAA8D8="], ["AAAAAAAAAEA="]],
        [["AAAAAAAA8P8=", None, None, False], ["AAAAAAAALEAAAAAAAADgPw==", None, True]],
        ["AAAAAAAALkA="],
    ],
}  # fmt: skip


def test_the_form_is_the_one_of_its_version() -> None:
    """If this fails a run under way could be misread: another form is another `FORMAT`."""
    assert SMALL.to_json() == WRITTEN
    assert Evidence.from_json(WRITTEN) == SMALL
