# SPDX-License-Identifier: Apache-2.0
"""The parts of the evidence about healthy versions: how often they are rolled back."""

from typing import Final

from tests.bench.evidence import false_rollbacks, goals, healthy, noise, stalls
from tests.bench.evidence.goals import Found
from tests.bench.evidence.pasts import GATEWAY_RUNS_EACH
from tests.bench.evidence.table import Cells, Share, placed, rows, summed
from tests.core.evidence.traffic import LADDER

UNSEEN: Final = 20
"""Runs whose canary has the bad pod, and whose past had none."""


def healthy_versions(runs: int) -> Found:
    """Errors, latency and everything at once, where errors are independent."""
    found: dict[str, Cells] = {}
    for name in false_rollbacks.CONFIGURATIONS:
        found[f"errors alone, {name}"] = [
            (f"{rate:.2%} errors, {volume:g} requests/s", share)
            for rate, volume, share in false_rollbacks.cells(name, runs)
        ]
    for name in false_rollbacks.FIXED:
        for share in LADDER:
            found[f"errors alone, {name}, {share:.0%} all along"] = [
                (f"{rate:.2%} errors, {volume:g} requests/s", one)
                for rate, volume, one in false_rollbacks.fixed(name, share, runs)
            ]
    for name in healthy.CONFIGURATIONS:
        found[name] = [
            (f"{volume:g} requests/s", share) for volume, share in healthy.cells(name, runs)
        ]
    lines = [summed(name, cells) for name, cells in found.items()]
    yield rows(("asked for", "rolled back", "worst cell", "at most, 95 % sure"), lines)
    yield healthy.told()
    what = (
        "healthy versions rolled back; those at one share all along by errors alone, "
        f"{len(false_rollbacks.FIXED_BASES)} of {len(false_rollbacks.BASES)} rates of them and "
        f"{len(false_rollbacks.FIXED_VOLUMES)} of {len(false_rollbacks.VOLUMES)} volumes"
    )
    yield goals.each(what, goals.PROMISED, placed(found))


def noisy(runs: int) -> Found:
    """Where errors are not independent, by the pods' own counters."""
    lines, cells, struck = [], Cells(), None
    for name in noise.SCENARIOS:
        found = noise.false_rollbacks(name, runs)
        cells.append((name, found.share))
        lines.append((name, str(found.phi), str(found.share), found.share.at_most))
        struck = struck or found.struck
    yield rows(("scenario", "phi from history", "rolled back", "at most, 95 % sure"), lines)
    yield _bad_canaries(struck, noise.unseen(UNSEEN, alone=False), "bad")
    yield goals.each("healthy versions rolled back, errors not independent", goals.NOISY, cells)


def behind_gateways(runs: int) -> Found:
    """The same by a gateway's counters, which know no pods."""
    lines, cells, struck = [], Cells(), None
    for name in noise.SCENARIOS:
        whole = noise.false_rollbacks(name, runs, each=GATEWAY_RUNS_EACH, alone=True)
        found = [
            str(noise.found_after(name, bad, 8, alone=alone))
            for bad in (0.05, 0.5)
            for alone in (True, False)
        ]
        if name != noise.BAD_ANYWHERE:
            cells.append((name, whole.share))
        lines.append((name, str(whole.phi), str(whole.share), whole.share.at_most, *found))
        struck = struck or whole.struck
    found_by = ("5 % found after", "by pods", "50 % found after", "by pods")
    yield rows(("scenario", "phi", "rolled back", "at most, 95 % sure", *found_by), lines)
    yield _bad_canaries(struck, noise.unseen(UNSEEN, alone=True), "bad")
    what = f'healthy versions rolled back, behind a gateway, but for "{noise.BAD_ANYWHERE}"'
    yield goals.each(what, goals.NOISY, cells)


def seldom(runs: int) -> Found:
    """Where incidents are so seldom that the replay alone shows them, at two paces."""
    lines, cells = [], Cells()
    for name in noise.SELDOM:
        pods = noise.false_rollbacks(name, runs)
        whole = noise.false_rollbacks(name, runs, each=GATEWAY_RUNS_EACH, alone=True)
        cells.append((name, pods.share))
        told = [
            text
            for one in (pods, whole)
            for text in (str(one.phi), str(one.scrapes), str(one.share), one.share.at_most)
        ]
        lines.append((name, *told))
    by_pods = ("phi", "k", "rolled back", "at most, 95 % sure")
    yield rows(("the run has", *by_pods, "by a gateway: phi", *by_pods[1:]), lines)
    what = "healthy versions rolled back, seldom incidents of single pods, by pods"
    yield goals.each(what, goals.NOISY, cells)


def stalled(runs: int) -> Found:
    """Where slow answers come together."""
    lines, cells = [], Cells()
    struck: dict[str, Share | None] = {}
    for name in stalls.SCENARIOS:
        told = []
        for by in ("pods", "a gateway"):
            alone = by == "a gateway"
            each = GATEWAY_RUNS_EACH if alone else stalls.RUNS_EACH
            one = stalls.false_rollbacks(name, runs, each=each, alone=alone)
            told += [str(one.slow_phi), str(one.far_phi), str(one.share), one.share.at_most]
            if by == "pods" or name != stalls.SLOW_ANYWHERE:
                cells.append((f"{name}, by {by}", one.share))
            struck[by] = struck.get(by) or one.struck
        found = [str(stalls.found_after(name, slower, 8)) for slower in stalls.REGRESSIONS]
        lines.append((name, *told, *found))
    by_pods = ("phi", "far out", "rolled back", "at most, 95 % sure")
    by_gateway = ("by a gateway: phi", *by_pods[1:])
    after = [f"{slower} found after" for slower in stalls.REGRESSIONS]
    yield rows(("scenario", *by_pods, *by_gateway, *after), lines)
    for by, share in struck.items():
        unseen = stalls.unseen(UNSEEN, alone=by == "a gateway")
        yield f"By {by}: {_bad_canaries(share, unseen, 'slow')}"
    what = (
        "healthy versions rolled back, slow answers in bunches, "
        f'but for "{stalls.SLOW_ANYWHERE}" by a gateway'
    )
    yield goals.each(what, goals.NOISY, cells)


def _bad_canaries(struck: Share | None, unseen: Share, bad: str) -> str:
    """What became of healthy versions that were started on a bad node."""
    seen = f"{struck.hits} of {struck.of}" if struck else "none of 0"
    return (
        f"Of the runs whose canary had the {bad} pod, {seen} were rolled back; where the past had "
        f"none like it, {unseen.hits} of {unseen.of}."
    )
