# SPDX-License-Identifier: Apache-2.0
"""What stands on the paper, and how the controller sees it."""

from dataclasses import dataclass, field

from controller.core.evidence.scraped import Scraped
from controller.core.evidence.tally import Interval, Tally
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.situation import Request, Situation
from controller.core.observation import (
    Backend,
    Deployment,
    Latches,
    Pod,
    Preflight,
    ReplicaSet,
    Route,
    Service,
    View,
)
from controller.core.policy import parse
from controller.core.values import (
    CANARY_TRACK,
    HASH_LABEL,
    PREFIX,
    TRACK_LABEL,
    RouteRef,
    TargetRef,
)

TARGET = TargetRef("shop", "checkout")
LABELS = (("app", "checkout"),)
ROUTE = RouteRef("HTTPRoute", "shop", "checkout")
POLICY = {"policy": "fast", "steps": "5@10s,25@10s", "bake": "10s"}
OLD, NEW, NEWER = "digest-old", "digest-new", "digest-newer"
HASHES = {OLD: "h-old", NEW: "h-new", NEWER: "h-newer"}


@dataclass
class Sheet:
    """One target with a Service and a route; every field may be changed by a test."""

    replicas: int = 4
    digest: str = NEW
    paused: bool = False
    exists: bool = True
    uid: str = "u1"
    annotations: dict[str, str] = field(default_factory=lambda: dict(POLICY))
    sets: dict[str, int] = field(default_factory=lambda: {OLD: 4})
    selector: tuple[tuple[str, str], ...] = LABELS
    service_original: bool = False
    weights: dict[str, int | None] = field(default_factory=lambda: {"checkout": None})
    route_original: bool = False
    accepted: bool | None = True
    canary: str = ""
    canary_uid: str = ""
    canary_owner: str = "u1"
    canary_pods: int = 0
    stuck: int = 0
    """Canary pods that are going and do not go, since their node is lost."""
    canary_service: bool = False
    canary_healthy: bool = True
    error_rate: float = 0.0
    requests_per_second: int = 400
    now: float = 1000.0
    scraped: float = 5000.0
    kills: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()
    preflight: Preflight | None = field(default_factory=Preflight)
    metrics_age: float | None = 0.0
    too_large: str = ""
    writes: list[str] = field(default_factory=list)
    made: int = 0
    routed: bool = True
    gradual: bool = False
    """The Deployment rolls pod by pod instead of all at once."""
    orphans: dict[str, int] = field(default_factory=dict)
    """Pods by digest that no ReplicaSet owns any more."""
    unscraped: dict[str, int] = field(default_factory=dict)
    """So many pods of these versions are not scraped, of the canary's and the Deployment's own."""
    unread: bool = False
    """Nobody has said yet which pods are scraped."""
    behind: bool = False
    """The endpoints of the Service stay as they are, whatever it selects."""
    unheard: bool = False
    """Nobody says where the Service leads."""
    endpoints: frozenset[str] = frozenset()
    """Pods that the Service leads to."""

    def pods_behind(self) -> dict[str, int]:
        """Pods that the user's Service selects, by digest; the canary's among them."""
        chosen = dict(self.selector)
        found = {
            digest: self.sets.get(digest, 0) + self.orphans.get(digest, 0) for digest in HASHES
        }
        if chosen.get(TRACK_LABEL) == CANARY_TRACK:
            return {self.canary: self.canary_pods} if self.canary_pods else {}
        if HASH_LABEL in chosen:
            found = {key: n for key, n in found.items() if HASHES[key] == chosen[HASH_LABEL]}
        elif self.canary:
            found[self.canary] += self.canary_pods if self.canary_healthy else 0
        return {digest: count for digest, count in found.items() if count > 0}

    def exposure(self) -> int:
        """The largest share that any path gives what is not stable, in basis points."""
        pods = self.pods_behind()
        total = sum(pods.values())
        other = total - pods.get(OLD, 0)
        through_service = -(-other * 10_000 // total) if total else 0
        return max(self.share(), through_service) if self.routed else through_service

    def share(self) -> int:
        """The canary's share in basis points."""
        stable = self.weights.get("checkout")
        stable = 1 if stable is None else stable
        canary = self.weights.get("checkout-canary", 0) or 0
        total = stable + canary
        return round(10_000 * canary / total) if total else 0

    def serving(self) -> set[str]:
        """Digests of the versions that may get a request now, by any path."""
        found: set[str] = set()
        share = self.share()
        if share > 0:
            found.add(self.canary)
        if share < 10_000:
            found |= self.behind_service()
        return found

    def behind_service(self) -> set[str]:
        """Digests of the pods that the user's Service selects."""
        return set(self.pods_behind())

    def view(self) -> View:
        """The world as the controller's caches have it."""
        deployment = None
        if self.exists:
            current = self.sets.get(self.digest, 0)
            deployment = Deployment(
                name="checkout",
                uid=self.uid,
                version="1",
                generation=1,
                observed_generation=1,
                replicas=self.replicas,
                paused=self.paused,
                strategy="RollingUpdate",
                digest=self.digest,
                selector=LABELS,
                pod_labels=LABELS,
                annotations=dict(self.annotations),
                updated=current,
                ready=sum(self.sets.values()),
                available=sum(self.sets.values()),
                status_replicas=sum(self.sets.values()),
            )
        return View(
            deployment=deployment,
            replica_sets=tuple(self._sets()) if self.exists else (),
            canary=self._canary(),
            services=(
                Service(
                    name="checkout",
                    uid="s1",
                    version="1",
                    selector=self.selector,
                    annotations={"original": "yes"} if self.service_original else {},
                    ready_endpoints=4,
                ),
            ),
            canary_services=self._canary_services(),
            routes=(self._route(),) if self.routed else (),
            pods=tuple(self._pods()),
        )

    def _sets(self) -> list[ReplicaSet]:
        return [
            ReplicaSet(
                name=f"checkout-{HASHES[digest]}",
                uid=f"rs-{digest}",
                hash=HASHES[digest],
                digest=digest,
                revision=number,
                replicas=count,
                ready=count,
                status_replicas=count,
            )
            for number, (digest, count) in enumerate(self.sets.items(), start=1)
        ]

    def _canary(self) -> Deployment | None:
        if not self.canary:
            return None
        ready = self.canary_pods if self.canary_healthy else 0
        return Deployment(
            name="checkout-canary",
            uid=self.canary_uid,
            version="1",
            generation=1,
            observed_generation=1,
            replicas=self.canary_pods,
            paused=False,
            strategy="RollingUpdate",
            digest=self.canary,
            selector=LABELS,
            pod_labels=LABELS,
            ready=ready,
            status_replicas=self.canary_pods,
            ours=True,
            owner_uid=self.canary_owner,
        )

    def _canary_services(self) -> tuple[Service, ...]:
        if not self.canary_service:
            return ()
        ready = self.canary_pods if self.canary_healthy else 0
        return (
            Service(
                name="checkout-canary",
                uid="s2",
                version="1",
                selector=LABELS,
                ready_endpoints=ready,
                ours=True,
                owner_uid=self.uid,
            ),
        )

    def _route(self) -> Route:
        return Route(
            ref=ROUTE,
            uid="r1",
            version="1",
            generation=1,
            backends=tuple(
                Backend(rule=0, index=index, service=name, weight=weight)
                for index, (name, weight) in enumerate(self.weights.items())
            ),
            accepted=self.accepted,
            annotations={"original": "yes"} if self.route_original else {},
        )

    def _pods(self) -> list[Pod]:
        waiting = "" if self.canary_healthy else "CrashLoopBackOff"
        going = [
            Pod(
                name=f"stuck-{number}", uid=f"k{number}", phase="Running", ready=True, deleting=True
            )
            for number in range(self.stuck if self.canary else 0)
        ]
        return going + [
            Pod(
                name=f"canary-{number}",
                uid=f"p{number}",
                phase="Running",
                ready=self.canary_healthy,
                waiting=waiting,
            )
            for number in range(self.canary_pods)
        ]

    def situation(self, memory: Memory | None = None) -> Situation:
        """What the next tick sees; scraped counts since the last one come along."""
        annotations = {PREFIX + key: text for key, text in self.annotations.items()}
        intervals: tuple[Interval, ...] = ()
        if self.exposure() or (memory and memory.run.weight_bp):
            self.scraped += 1
            intervals = (self._interval(),)
        requests, self.requests = self.requests, ()
        return Situation(
            now=self.now,
            view=self.view(),
            policy=parse.parse(annotations),
            latches=Latches(kills=self.kills, epoch=1),
            requests=requests,
            preflight=self.preflight,
            rolled=tuple(self._rolled(memory)) if memory else None,
            led=self._led(),
            intervals=intervals,
            scraped=None if self.unread else self._scraped(),
            scraped_at=self.scraped,
            too_large=self.too_large,
            metrics_age=self.metrics_age,
            clock=self.scraped,
            scrape_seconds=1.0,
            settle_seconds=1.0,
            drain_seconds=1.0,
        )

    def _led(self) -> dict[str, frozenset[str]] | None:
        """Whom the Service leads to: those that it selects, unless its endpoints are behind."""
        if not self.behind:
            self.endpoints = frozenset(self._selected())
        return None if self.unheard else {"checkout": self.endpoints}

    def _selected(self) -> list[str]:
        chosen = dict(self.selector)
        canary = [pod.name for pod in self._pods() if pod.ready]
        if TRACK_LABEL in chosen:
            return canary
        own = [
            f"{digest}-owned-{number}"
            for digest, count in self.sets.items()
            if chosen.get(HASH_LABEL, HASHES[digest]) == HASHES[digest]
            for number in range(count)
        ]
        return own if HASH_LABEL in chosen else [*own, *canary]

    def _rolled(self, memory: Memory) -> list[Pod]:
        """What the engine asks the API server for: pods by the hashes that the run knows."""
        hashes = {*memory.run.orphans, memory.run.new_hash}
        return [
            Pod(
                name=f"{digest}-{kind}-{number}",
                uid=f"{digest}-{kind}-{number}",
                phase="Running",
                ready=True,
                orphan=kind == "orphan",
            )
            for kind, pods in (("owned", self.sets), ("orphan", self.orphans))
            for digest, count in pods.items()
            if HASHES[digest] in hashes
            for number in range(count)
        ]

    def _scraped(self) -> Scraped:
        """Pods by the names that they have in the view and among the rolled ones."""
        missing = self.unscraped.get(NEW, 0)
        twins = [pod.name for pod in self._pods()]
        own = [f"{NEW}-owned-{number}" for number in range(self.sets.get(NEW, 0))]
        stable = range(self.sets.get(OLD, 0) - self.unscraped.get(OLD, 0))
        return Scraped(
            at=self.scraped,
            canary=frozenset([*twins[missing:], *own[missing:]]),
            stable=frozenset(f"{OLD}-owned-{number}" for number in stable),
        )

    def _interval(self) -> Interval:
        share = self.share() if self.routed else self.exposure()
        canary = self.requests_per_second * share // 10_000
        return Interval(
            at=self.scraped,
            seconds=1.0,
            canary=Tally(requests=canary, errors=round(canary * self.error_rate)),
            stable=Tally(requests=self.requests_per_second - canary, errors=0),
        )
