# SPDX-License-Identifier: Apache-2.0
"""Providers: what each gateway or mesh calls its metrics, read from the files beside this one.

Adding a provider means adding a file. What cannot be said in it (another way of counting) would be
a new field here, never a branch on a provider's name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, assert_never

import msgspec
import yaml

from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey

JOINED: Final = "{joined}"


class Recognise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to see that a target is served by this provider."""

    controllers: tuple[str, ...]
    metric: str


class ServiceLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a series names its Service."""

    label: str
    patterns: tuple[str, ...]


class PodLabels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a series names the pod that counted it."""

    namespace: str
    pod: str


class Requests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The counter of answers, and which of its series count as errors.

    Libraries call the label of the status differently; the first of `code_labels` that a series has
    counts.
    """

    metric: str
    code_labels: tuple[str, ...]
    error_codes: str


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cumulative histogram of answer times."""

    metric: str
    bound_label: str
    unit_seconds: float


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider file: of counters by Service or by pod, one of the two."""

    name: str
    title: str
    recognise: Recognise
    requests: Requests
    latency: Latency | None
    targets: tuple[str, ...]
    settle_seconds: float
    service: ServiceLabel | None = None
    pods: PodLabels | None = None
    caveats: tuple[str, ...] = ()

    def answers(self, key: TrackKey) -> bool:
        """Whether it has counters for keys of this kind."""
        match key:
            case ServiceKey():
                return self.service is not None
            case PodsKey():
                return self.pods is not None
            case _:
                assert_never(key)

    def is_error(self, labels: Mapping[str, str]) -> bool:
        """Whether an answer counted under these labels failed."""
        codes = (labels[name] for name in self.requests.code_labels if labels.get(name))
        return re.fullmatch(self.requests.error_codes, next(codes, "")) is not None


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


def load() -> dict[str, Provider]:
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
    return found


def parse(text: str, name: str) -> Provider:
    """One provider from the text of its file.

    Raises:
        ValueError: It is no YAML, a field is missing, unknown or of the wrong type, or a pattern is
            no regular expression.
    """
    try:
        provider = msgspec.convert(yaml.safe_load(text), Provider)
        re.compile(provider.requests.error_codes)
        patterns = provider.service.patterns if provider.service else ()
        groups = [
            set(re.compile(pattern.replace(JOINED, "(?P<joined>x)")).groupindex)
            for pattern in patterns
        ]
    except (yaml.YAMLError, msgspec.ValidationError, re.error) as error:
        raise ValueError(f"provider file {name}: {error}") from error
    if (provider.service is None) is (provider.pods is None):
        raise ValueError(f"provider file {name}: it needs service or pods, and not both")
    if not all(found in ({"joined"}, {"namespace", "service"}) for found in groups):
        raise ValueError(f"provider file {name}: a pattern names no Service with its namespace")
    return provider
