# SPDX-License-Identifier: Apache-2.0
"""Providers: what each gateway or mesh calls its metrics, read from the files beside this one.

Adding a provider means adding a file. What cannot be said in it (another way of counting) would be
a new field here, never a branch on a provider's name.
"""

import re
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Final

import msgspec
import yaml

from controller.ports.metrics import ServiceKey

JOINED: Final = "{joined}"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_DASHES: Final = re.compile(r"[^a-z0-9]+")


class Recognise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to see that a target is served by this provider."""

    controllers: tuple[str, ...]
    metric: str


class ServiceLabel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a series names its Service."""

    label: str
    patterns: tuple[str, ...]


class Requests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The counter of answers, and which of its series count as errors."""

    metric: str
    code_label: str
    error_codes: str


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cumulative histogram of answer times."""

    metric: str
    bound_label: str
    unit_seconds: float


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider file."""

    name: str
    title: str
    recognise: Recognise
    service: ServiceLabel
    requests: Requests
    latency: Latency | None
    targets: tuple[str, ...]
    settle_seconds: float
    caveats: tuple[str, ...] = ()

    def is_error(self, code: str) -> bool:
        """Whether an answer with this status counts as failed."""
        return re.fullmatch(self.requests.error_codes, code) is not None


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
        groups = [
            re.compile(pattern.replace(JOINED, "(?P<joined>x)")).groupindex
            for pattern in provider.service.patterns
        ]
    except (yaml.YAMLError, msgspec.ValidationError, re.error) as error:
        raise ValueError(f"provider file {name}: {error}") from error
    if not all("joined" in names or "service" in names for names in groups):
        raise ValueError(f"provider file {name}: a pattern names no Service")
    return provider


class Names:
    """Tells which Service a label value means, for a given set of Services.

    Label values in which namespace and name run into each other are not taken apart: `a-b-c` may be
    `b-c` in `a` or `c` in `a-b`. They are looked up among the Services that are asked for; if two
    of them read the same, neither gets the series, since a wrong one would be worse than none.
    """

    def __init__(self, provider: Provider, services: Collection[ServiceKey]) -> None:
        """Prepare the look-up.

        Raises:
            ValueError: A name is not one that Kubernetes would have accepted.
        """
        for part in (part for service in services for part in service):
            if not _NAME.fullmatch(part):
                raise ValueError(f"{part!r} is no name of a namespace or Service")
        joined: dict[str, list[ServiceKey]] = {}
        for service in sorted(set(services)):
            joined.setdefault(_DASHES.sub("-", "-".join(service)), []).append(service)
        self.ambiguous = tuple(
            " and ".join("/".join(service) for service in same)
            for same in joined.values()
            if len(same) > 1
        )
        self._joined: Mapping[str, ServiceKey] = {
            name: same[0] for name, same in joined.items() if len(same) == 1
        }
        self._asked = frozenset(services)
        self._patterns = tuple(
            re.compile(pattern.replace(JOINED, "(?P<joined>[a-z0-9-]+?)"))
            for pattern in provider.service.patterns
        )
        self._provider = provider
        self._seen: dict[str, ServiceKey | None] = {}

    def service(self, value: str) -> ServiceKey | None:
        """The Service that this label value means, None if it is none of those asked for."""
        if value not in self._seen:
            self._seen[value] = self._find(value)
        return self._seen[value]

    def _find(self, value: str) -> ServiceKey | None:
        for pattern in self._patterns:
            match = pattern.fullmatch(value)
            if match is None:
                continue
            groups = match.groupdict()
            if "joined" in groups:
                found = self._joined.get(groups["joined"])
            else:
                key = (groups.get("namespace") or "", groups["service"])
                found = key if key in self._asked else None
            if found is not None:
                return found
        return None

    def matcher(self, longest: int) -> str:
        """A PromQL regular expression for all these Services, without anchors.

        Names are listed where that stays within `longest` characters; beyond it the expression
        matches every Service of the provider, and the sorting is ours.
        """
        for names in ("|".join(sorted(self._joined)), "[a-z0-9-]+"):
            inner = f"(?:{names})"
            text = "|".join(
                re.sub(r"\(\?P<[a-z]+>", "(", pattern.replace(JOINED, inner))
                for pattern in self._provider.service.patterns
            )
            if len(text) <= longest:
                return text
        return text
