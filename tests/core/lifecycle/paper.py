# SPDX-License-Identifier: Apache-2.0
"""A cluster on paper: effects change it at once, controllers act between two ticks.

Small enough to be read in one go and quick enough to interrupt every plan at every point; how a
real API server and its controllers behave is the business of the simulated one.
"""

from dataclasses import dataclass

from controller.core import effects
from controller.core.effects import Effect
from controller.core.lifecycle.memory import Mark, Memory, Moments, Run
from controller.core.values import CANARY_TRACK, HASH_LABEL, TRACK_LABEL
from tests.core.lifecycle.sheet import (
    HASHES,
    LABELS,
    NEW,
    NEWER,
    OLD,
    POLICY,
    ROUTE,
    TARGET,
    Sheet,
)

__all__ = ["HASHES", "LABELS", "NEW", "NEWER", "OLD", "POLICY", "ROUTE", "TARGET", "Paper", "begun"]


@dataclass
class Paper(Sheet):
    """The sheet, with what the API server and the controllers do to it."""

    def apply(self, effect: Effect) -> None:
        """Carry out one effect, as the API server would."""
        self.writes.append(type(effect).__name__)
        for part in (self._apply_route, self._apply_service, self._apply_canary):
            if part(effect):
                return
        self._apply_deployment(effect)

    def _apply_deployment(self, effect: Effect) -> None:
        match effect:
            case effects.Pause():
                self.paused = True
                self.annotations["hold"] = "run"
            case effects.Resume() | effects.Roll():
                assert effect.digest == self.digest
                self._resume()
            case effects.Revert():
                self.digest = OLD
                self._resume()
            case effects.FreezeReplicaSet():
                self.sets[effect.uid.removeprefix("rs-")] = 0
            case effects.DeleteReplicaSet():
                del self.sets[effect.uid.removeprefix("rs-")]
            case effects.OrphanReplicaSet():
                digest = effect.uid.removeprefix("rs-")
                self.orphans[digest] = self.orphans.get(digest, 0) + self.sets.pop(digest)
            case effects.DeletePods():
                for name, _ in effect.pods:
                    self.orphans[name.rsplit("-", 2)[0]] -= 1
            case effects.Annotate():
                changed = {**self.annotations, **effect.annotations}
                self.annotations = {key: text for key, text in changed.items() if text is not None}
            case _:
                raise AssertionError(effect)

    def _resume(self) -> None:
        self.paused = False
        self.annotations.pop("hold", None)

    def _apply_service(self, effect: Effect) -> bool:
        match effect:
            case effects.PinService():
                self._select(effect.original, effect.key, effect.value)
                self.service_original = True
            case effects.FollowCanary():
                self._select(effect.original, TRACK_LABEL, CANARY_TRACK)
            case effects.Confine():
                self._select(LABELS, HASH_LABEL, effect.hash)
            case effects.Admit():
                self.selector = LABELS
            case effects.UnpinService():
                self.selector = effect.original
                self.service_original = False
            case effects.CreateCanaryService():
                self.canary_service = True
            case effects.DeleteCanaryService():
                self.canary_service = False
            case _:
                return False
        return True

    def _select(self, original: tuple[tuple[str, str], ...], key: str, value: str) -> None:
        self.selector = tuple(sorted({**dict(original), key: value}.items()))

    def _apply_canary(self, effect: Effect) -> bool:
        match effect:
            case effects.CreateCanary():
                self.made += 1
                self.canary, self.canary_uid = effect.digest, f"c{self.made}"
                self.canary_owner = effect.owner_uid
            case effects.StartCanary() | effects.ShrinkCanary():
                self.canary_pods = effect.replicas
            case effects.OwnCanary():
                self.canary_owner = effect.owner_uid
            case effects.DeleteCanary():
                self.canary, self.canary_pods = "", 0
            case _:
                return False
        return True

    def _apply_route(self, effect: Effect) -> bool:
        match effect:
            case effects.AttachBackend():
                self.weights = {"checkout": 10_000, "checkout-canary": 0}
                self.route_original = True
            case effects.DetachBackend():
                self.weights, self.route_original = {"checkout": None}, False
            case effects.ZeroWeight():
                self._weigh(0)
            case effects.LowerWeight():
                self._weigh(min(effect.weight_bp, self.share()))
            case effects.RaiseWeight():
                self._weigh(effect.weight_bp)
            case effects.Gather():
                self._weigh(10_000)
            case _:
                return False
        return True

    def _weigh(self, bp: int) -> None:
        if "checkout-canary" in self.weights:
            self.weights = {"checkout": 10_000 - bp, "checkout-canary": bp}

    def controllers(self) -> None:
        """The Deployment controller: roll when unpaused, scale the one active set when paused."""
        if not self.exists:
            return
        if not self.paused:
            self._roll()
        else:
            active = [digest for digest, count in self.sets.items() if count > 0]
            if len(active) <= 1 and self.sets:
                newest = active[0] if active else next(iter(self.sets))
                self.sets[newest] = self.replicas

    def _roll(self) -> None:
        new = self.sets.get(self.digest, 0)
        step = new + 1 if self.gradual and new < self.replicas else self.replicas
        others = {key: count for key, count in self.sets.items() if key != self.digest}
        left = max(self.replicas - step, 0)
        for key, count in others.items():
            others[key] = min(count, left)
            left -= others[key]
        self.sets = {**others, self.digest: step}

    def pass_time(self, seconds: float = 1.0) -> None:
        """Time goes on and controllers act."""
        self.now += seconds
        self.controllers()


def begun(paper: Paper) -> Memory:
    """A run for the paper's present template, as the desk would begin it."""
    mark = Mark(uid=paper.uid, hash=HASHES[OLD], digest=OLD)
    run = Run(
        name="run-1",
        target=TARGET,
        uid=paper.uid,
        annotations=tuple(sorted(paper.annotations.items())),
        stable_hash=mark.hash,
        stable_digest=mark.digest,
        digest=paper.digest,
        replicas=paper.replicas,
    )
    return Memory(run=run, moments=Moments(entered=paper.now))
