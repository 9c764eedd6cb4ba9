# SPDX-License-Identifier: Apache-2.0
"""Raw counter samples as the metrics store gives them, and how far they have been counted.

A track of a run is a set of keys. Each names counters by what tells them apart from the other
track's: the Service behind which the gateway counted them, or the pods that counted themselves.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec

Label = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$")]
"""The name of a label or metric that a query takes as it stands."""

JOB: Final = "job"
"""The label by which the store tells who scrapes a target."""

_LONGEST_STEM: Final = 58
"""Kubernetes cuts what stands before the drawn suffix of a pod's name to so many characters."""

_LONGEST_HASH: Final = 10


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """The requests that a gateway sent to one Service.

    `provider` names the provider to ask; empty leaves the choice to the daemon's settings.
    """

    namespace: str
    service: str
    provider: str = ""

    def __str__(self) -> str:
        """`Service namespace/name`."""
        return f"Service {self.namespace}/{self.service}"


@dataclass(frozen=True, slots=True, order=True)
class PodsKey:
    """The requests that the pods of one ReplicaSet of a Deployment answered.

    An empty `hash` means the pods of every ReplicaSet of that Deployment, and of no other whose
    name merely begins alike. `provider` as for a Service.
    """

    namespace: str
    deployment: str
    hash: str
    provider: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether the names of such pods are so long that Kubernetes cuts the hash out of them."""
        longest = len(self.hash) if self.hash else _LONGEST_HASH
        return len(self.deployment) + 1 + longest + 1 > _LONGEST_STEM

    def __str__(self) -> str:
        """`pods of namespace/name-hash`, or of all hashes."""
        return f"pods of {self.namespace}/{self.deployment}-{self.hash or '*'}"


TrackKey: TypeAlias = ServiceKey | PodsKey

LONGEST_NAME: Final = _LONGEST_STEM - _LONGEST_HASH - 2
"""Characters of a Deployment's name with which its pods can be told by their names."""


class Sample(NamedTuple):
    """One scraped value: `at` in seconds since the epoch, as the scrape was stamped."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One counter: its labels in sorted order, and its samples.

    Its labels are those of the scrape target. Who scraped it is no part of what it is: where
    several do, another one of them may bring its samples at the next look.
    """

    labels: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]
    job: str = ""
    """Who scraped it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSeries:
    """Everything the metrics store has on the answers of one key, or of one track.

    Attributes:
        requests: Counters of all answers, one for each code, method, gateway and so on.
        errors: The ones among them (or of a metric of their own) that count failed answers.
        buckets: Cumulative histogram counters with the upper bound in seconds, +Inf included.
        target_labels: Names of the labels that tell scrape targets apart.
        pod_label: Name of the label with the pod that answered; empty where a gateway counted.
    """

    requests: tuple[Series, ...] = ()
    errors: tuple[Series, ...] = ()
    buckets: tuple[tuple[float, Series], ...] = ()
    target_labels: tuple[str, ...] = ("instance", "job", "pod")
    pod_label: str = ""

    @property
    def jobs(self) -> frozenset[str]:
        """The jobs that scrape these counters, or whatever else gives them that label."""
        return frozenset(series.job for series in self.requests)

    def until(self, at: float) -> "TrackSeries":
        """What had been scraped by then."""
        return self._kept(lambda sample: sample.at <= at)

    def since(self, at: float) -> "TrackSeries":
        """What was scraped after that."""
        return self._kept(lambda sample: sample.at > at)

    def _kept(self, wanted: Callable[[Sample], bool]) -> "TrackSeries":
        def some(series: Series) -> Series:
            return replace(series, samples=tuple(filter(wanted, series.samples)))

        return replace(
            self,
            requests=tuple(some(series) for series in self.requests),
            errors=tuple(some(series) for series in self.errors),
            buckets=tuple((bound, some(series)) for bound, series in self.buckets),
        )


Name: TypeAlias = int
"""What a series, a scrape target or a pod is called within one process: a hash of its labels."""


class Shown(NamedTuple):
    """The newest scrape of a target that was ever shown.

    Attributes:
        at: Its time stamp.
        late: Seconds after their stamps at which the target's scrapes are seen first, at most and
            fading; None: not known yet.
        last: The same of this one.
    """

    at: float
    late: float | None = None
    last: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far the counting has come; immutable.

    Attributes:
        at: End of the latest interval, None before the first look.
        begun: Where the counting began. What a series had counted by then is nobody's, also where
            it is not known and however far back a look may reach.
        series: For each series its latest counted sample.
        targets: For each scrape target and each pod the time of its latest sample.
        shown: For each scrape target how late its scrapes are shown.
    """

    at: float | None = None
    begun: float = -math.inf
    series: Mapping[Name, Sample] = field(default_factory=dict)
    targets: Mapping[Name, float] = field(default_factory=dict)
    shown: Mapping[Name, Shown] = field(default_factory=dict)
