# SPDX-License-Identifier: Apache-2.0
"""Whether the counts that judge a run are there, and are those of all its pods.

A pod that has just started is not scraped yet, which is nothing to tell of. So it is told when it
lasts; but nothing passes meanwhile.
"""

import math
from typing import Final, NamedTuple

from controller.core.evidence.reasons import UNKNOWN, Code, Reason, seconds
from controller.core.evidence.saturation import WINDOW_SECONDS
from controller.core.evidence.scraped import LATE_SECONDS, lacking
from controller.core.evidence.settings import OLD_SCRAPES, oldest
from controller.core.lifecycle import exposure
from controller.core.lifecycle.memory import Memory, Run
from controller.core.lifecycle.situation import Situation
from controller.core.lifecycle.table import ALL_IN, ARMED, EXPOSED, Phase
from controller.core.lifecycle.tracks import by_pods

FIRST_SCRAPE_SECONDS: Final = 30.0
"""So long it may take at least until a pod that is ready is discovered and scraped."""


def unscraped(situation: Situation, run: Run) -> tuple[Reason, ...]:
    """The pods without counts, where pods count themselves and it is known who is scraped."""
    known = situation.scraped
    if known is None or not known.tells(situation.clock) or not by_pods(run):
        return ()
    if situation.scrape_seconds >= WINDOW_SECONDS:
        return ()  # Between two scrapes nothing of a target would be seen.
    rolled = situation.rolled or () if run.phase is Phase.BAKING else ()
    stable = next((s for s in situation.view.replica_sets if s.hash == run.stable_hash), None)
    return tuple(
        lacking(
            known,
            canary=[*situation.view.pods, *(pod for pod in rolled if not pod.orphan)],
            stable=stable.ready if stable is not None and run.phase not in ARMED else None,
        )
    )


def timed(situation: Situation, memory: Memory) -> Memory:
    """The memory that knows since when pods are not scraped."""
    since = memory.moments.unscraped
    if not unscraped(situation, memory.run):
        return memory if since is None else memory.at(unscraped=None)
    return memory.at(unscraped=situation.now) if since is None else memory


def lasting(situation: Situation, memory: Memory) -> tuple[Reason, ...]:
    """What is not counted: everything, or pods, if that takes longer than their start."""
    if situation.too_large:
        message = f"the run gets no counts at all{also(situation)}"
        return (Reason(check="data", code=Code.METRICS_STALE, message=message, expected=UNKNOWN),)
    since = memory.moments.unscraped
    patience = max(FIRST_SCRAPE_SECONDS, OLD_SCRAPES * situation.scrape_seconds)
    if since is None or situation.now - since < patience:
        return ()
    return unscraped(situation, memory.run)


class Silence(NamedTuple):
    """For how long nothing was heard, of whom, and why, as the parts of a sentence."""

    seconds: float
    words: str
    why: str = ""


def silence(situation: Situation, memory: Memory) -> Silence:
    """For how long nothing is known of the run, or of one of its versions, whichever is longer."""
    age = situation.metrics_age
    # One that has not answered this process yet is silent since the phase began (or the restart).
    store = situation.now - memory.moments.entered if age is None else age
    words, why = "the metrics store has given no usable answer", also(situation)
    return max(Silence(store, words, why), _unseen(situation, memory), key=lambda one: one.seconds)


def at_stake(situation: Situation, memory: Memory) -> bool:
    """Whether the version has requests that silence would have to take away."""
    if memory.phase in ARMED:
        return True
    return memory.phase in EXPOSED and any(exposure.exposures(situation, memory.run))


def _unseen(situation: Situation, memory: Memory) -> Silence:
    """The version that was counted before and is not any more; nobody may be blind for one of them.

    Stable is asked for as long as it has requests. Where scrapes are far apart one that was just
    missed is not silent. Time in which nobody could have been counted is none of it: before the
    present weight was in force or is being raised, where the run had gone back to none, and, after
    a restart, until the tail has been read or is known to be gone.
    """
    found, nobody = memory.evidence, Silence(0.0, "")
    if found is None or not situation.clock or situation.scraped_at is None:
        return nobody
    tracks = {"the canary": found.canary_at}
    if memory.phase not in ALL_IN:
        tracks["stable"] = found.stable_at
    known = [(at, track) for track, at in tracks.items() if math.isfinite(at)]
    if not known:
        return nobody
    at, track = min(known)
    begins = (found.window.at, situation.counted_from)
    age = situation.clock - max([at, *(begin for begin in begins if begin is not None)])
    if memory.phase in EXPOSED and memory.run.weight_bp == 0:
        age = min(age, situation.now - memory.moments.entered)
    if age <= oldest(situation.scrape_seconds):
        return nobody
    return Silence(age, f"{track} was counted before and is missing in all scrapes")


def also(situation: Situation) -> str:
    """Why the metrics store is as if silent for this run alone, to follow on other words."""
    if not situation.too_large:
        return ""
    return f", since the series of it alone are too many ({situation.too_large})"


def doubts(situation: Situation, memory: Memory) -> tuple[Reason, ...]:
    """Why a PASS would not stand on the counts of all pods.

    A restart lets nothing pass that was held for it: the first answer is waited for, which brings
    the tail, and so is the first reading. That not without end, since a store may refuse to answer
    this question alone.
    """
    if not situation.clock:
        message = "the metrics store has not answered since the start"
        reason = Reason(check="data", code=Code.METRICS_STALE, message=message, expected=UNKNOWN)
        return (reason,)
    waited = situation.now - memory.moments.entered
    if situation.scraped is not None or not by_pods(memory.run) or waited >= LATE_SECONDS:
        return unscraped(situation, memory.run)
    message = "it is not known yet which pods are scraped"
    most = f"{seconds(LATE_SECONDS - waited)} at most"
    return (Reason(check="data", code=Code.METRICS_STALE, message=message, expected=most),)
