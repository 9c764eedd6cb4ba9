# SPDX-License-Identifier: Apache-2.0
"""Raw counter samples as the metrics store gives them, and how far they have been counted."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One scraped value: `at` in seconds since the epoch, as the scrape was stamped."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One counter: its labels in sorted order, and its samples."""

    labels: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSeries:
    """Everything the metrics store has on the answers of one Service.

    Attributes:
        requests: Counters of all answers, one for each code, method, gateway and so on.
        errors: The ones among them (or of a metric of their own) that count failed answers.
        buckets: Cumulative histogram counters with the upper bound in seconds, +Inf included.
        target_labels: Names of the labels that tell scrape targets apart.
    """

    requests: tuple[Series, ...] = ()
    errors: tuple[Series, ...] = ()
    buckets: tuple[tuple[float, Series], ...] = ()
    target_labels: tuple[str, ...] = ("instance", "job", "pod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far the counting has come; immutable.

    Attributes:
        at: End of the latest interval, None before the first look.
        series: For each series (by digest) its latest counted sample.
        targets: For each scrape target (by digest) the time of its latest sample.
    """

    at: float | None = None
    series: Mapping[str, Sample] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)
