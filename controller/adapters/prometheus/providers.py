# SPDX-License-Identifier: Apache-2.0
"""Providers: what each gateway or mesh calls its metrics, read from the files beside this one.

Adding a provider means adding a file. What cannot be said in it (another way of counting) would be
a new field here, never a branch on a provider's name.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Final, assert_never

import msgspec
import yaml

from controller.core.evidence.series import Label, PodsKey, ServiceKey, TrackKey

JOINED: Final = "{joined}"

Plain = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]+$")]
"""A label value that neither a string nor an expression in PromQL gives a meaning of its own."""


Expression = Annotated[str, msgspec.Meta(pattern=r'^[^"\\]+$')]
"""A regular expression that a string in PromQL holds as it stands."""


PROBES: Final = (
    "/(?:healthz?|healthcheck|livez?|liveness|alive|readyz?|readiness|startupz|ping|metrics)/?"
    "|/(?:healthz|livez|readyz)/.+"
    "|/health/(?:live|liveness|ready|readiness|started|startup)/?"
    "|/actuator/(?:health|info|metrics|prometheus)(?:/.*)?"
    "|/q/(?:health|metrics)(?:/.*)?"
    "|/-/(?:healthy|ready)"
)
"""Paths of probes and scrapes. Nothing that a path of anybody's business may be is among them:
/healthcare, /health/plans, /metrics/daily."""


class Recognise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to see that a target is served by this provider."""

    controllers: tuple[str, ...]
    metric: Label


class ServiceLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a series names its Service, together with whatever else stands in that label."""

    label: Label
    patterns: tuple[str, ...]


class ServiceLabels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a series names its Service, if namespace and name have a label each."""

    namespace: Label
    service: Label


class PodLabels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a series names the pod that counted it."""

    namespace: Label
    pod: Label


class Requests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The counter of answers, and which of its series count as errors.

    Libraries call the label of the status differently; the first of `code_labels` that a series has
    counts. A failure may show beside a good status as well: a series with any of `also_errors`,
    expressions by label, is one of errors whatever its code. With `codeless_is_error` so is one
    that has none of `code_labels`.
    """

    metric: Label
    code_labels: tuple[Label, ...]
    error_codes: str
    also_errors: dict[Label, str] = {}
    codeless_is_error: bool = False


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cumulative histogram of answer times.

    `only` names the label values of those that are timed, where others last as long as their client
    likes; answers of either kind are counted.

    `native` is what the same one is called where the store keeps it as a native histogram: the name
    without an ending. Its count is then the counter of answers as well, if that is how these count.
    """

    metric: Label
    bound_label: Label
    unit_seconds: float
    native: Label | None = None
    only: dict[Label, tuple[Plain, ...]] = {}


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider file: of counters by Service or by pod, one of the two.

    Where several parties count the same request, `only` names the label values of the one that is
    listened to; the others' series are not asked for. Nor are those of which a label is, from its
    begin to its end, what `ignore` has for it: the kubelet's probes and scrapes are no requests of
    anybody. For the labels in `paths`, which have the path of a request, that is the usual paths of
    those. A series without that label is asked for.
    """

    name: str
    title: str
    recognise: Recognise
    requests: Requests
    latency: Latency | None
    targets: tuple[Label, ...]
    settle_seconds: float
    service: ServiceLabel | None = None
    service_labels: ServiceLabels | None = None
    only: dict[Label, tuple[Plain, ...]] = {}
    paths: tuple[Label, ...] = ()
    ignore: dict[Label, Expression] = {}
    pods: PodLabels | None = None
    caveats: tuple[str, ...] = ()

    def answers(self, key: TrackKey) -> bool:
        """Whether it has counters for keys of this kind."""
        match key:
            case ServiceKey():
                return self.pods is None
            case PodsKey():
                return self.pods is not None
            case _:
                assert_never(key)

    def takes(self, controllers: Iterable[str]) -> bool:
        """Whether one of these controllers of Gateways is one whose metrics it reads."""
        return not set(self.recognise.controllers).isdisjoint(controllers)

    def is_error(self, labels: Mapping[str, str]) -> bool:
        """Whether an answer counted under these labels failed."""
        codes = (labels[name] for name in self.requests.code_labels if labels.get(name))
        code = next(codes, "")
        if not code and self.requests.codeless_is_error:
            return True
        told = [(self.requests.error_codes, code)]
        told += [(bad, labels.get(name, "")) for name, bad in self.requests.also_errors.items()]
        return any(value and re.fullmatch(bad, value) for bad, value in told)

    def tells(self, labels: Mapping[str, str]) -> bool:
        """Whether labels say how an answer ended; without them no failure would ever be seen."""
        named = (*self.requests.code_labels, *self.requests.also_errors)
        return self.requests.codeless_is_error or any(labels.get(name) for name in named)

    @property
    def native(self) -> str:
        """Name of the native histogram of answer times; empty if there can be none."""
        return (self.latency and self.latency.native) or ""

    @property
    def natively_counted(self) -> bool:
        """Whether the native histogram counts the answers where it stands for the classic one."""
        return bool(self.native) and self.requests.metric == f"{self.native}_count"

    def requests_selector(self, names: str) -> str:
        """A PromQL selector of the series that count answers, narrowed down by `names`."""
        native = self.native if self.natively_counted else ""
        return self._selector(self.requests.metric, native, self.counted(names))

    def latency_selector(self, latency: Latency, names: str) -> str:
        """The same of those that count by how long answers took."""
        timed = self.counted(names) + _narrowed(latency.only)
        return self._selector(latency.metric, self.native, timed)

    def _selector(self, metric: str, native: str, inner: str) -> str:
        inner += "".join(f',{label}!~"{words}"' for label, words in self.ignore.items())
        if native:
            return f'{{__name__=~"{metric}|{native}",{inner}}}'
        return f"{metric}{{{inner}}}"

    def counted(self, names: str) -> str:
        """What stands in the braces of such a selector, whatever is ignored."""
        return names + _narrowed(self.only)


def _narrowed(only: Mapping[str, Sequence[str]]) -> str:
    return "".join(f',{label}=~"{"|".join(words)}"' for label, words in only.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The providers of one daemon: all that are known by name, and the order of its own choice."""

    known: Mapping[str, Provider]
    auto: Sequence[str]

    def of(self, key: TrackKey) -> Provider | None:
        """The one to ask for a key; None if none that is named or chosen knows such keys."""
        names = (key.provider,) if key.provider else self.auto
        found = (self.known[name] for name in names if name in self.known)
        return next((provider for provider in found if provider.answers(key)), None)

    @property
    def settle_seconds(self) -> dict[str, float]:
        """How long each known provider takes at most until a change is in force, by name."""
        return {name: provider.settle_seconds for name, provider in self.known.items()}


def choose(auto: Sequence[str]) -> Choice:
    """The shipped providers, with those first that are meant where a policy names none.

    Raises:
        ValueError: A provider file is not as it should be.
    """
    return Choice(known=load(), auto=tuple(auto))


@functools.cache  # The files are part of the program.
def load() -> Mapping[str, Provider]:
    """All providers by name.

    Raises:
        ValueError: A file is not as it should be; says which and why.
    """
    folder = resources.files(__package__) / "providers"
    found: dict[str, Provider] = {}
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            provider = parse(file.read_text(encoding="utf-8"), file.name)
            found[provider.name] = provider
    return MappingProxyType(found)


def parse(text: str, name: str) -> Provider:
    """One provider from the text of its file.

    Raises:
        ValueError: It is no YAML, a field is missing, unknown or of the wrong type, or a pattern is
            no regular expression.
    """
    try:
        provider = msgspec.convert(yaml.safe_load(text), Provider)
        ignored = {**dict.fromkeys(provider.paths, PROBES), **provider.ignore}
        provider = msgspec.structs.replace(provider, ignore=ignored)
        requests = provider.requests
        errors = (requests.error_codes, *requests.also_errors.values())
        for expression in (*errors, *provider.ignore.values()):
            re.compile(expression)
        patterns = provider.service.patterns if provider.service else ()
        groups = [
            set(re.compile(pattern.replace(JOINED, "(?P<joined>x)")).groupindex)
            for pattern in patterns
        ]
    except (yaml.YAMLError, msgspec.ValidationError, re.error) as error:
        raise ValueError(f"provider file {name}: {error}") from error
    if [provider.service, provider.service_labels, provider.pods].count(None) != 2:
        raise ValueError(f"provider file {name}: it needs one of service, service_labels and pods")
    if provider.latency and provider.native and provider.latency.unit_seconds != 1:
        raise ValueError(f"provider file {name}: a native histogram is read in seconds alone")
    if not all(found in ({"joined"}, {"namespace", "service"}) for found in groups):
        raise ValueError(f"provider file {name}: a pattern names no Service with its namespace")
    return provider
