# SPDX-License-Identifier: Apache-2.0
"""Which keys a series belongs to, and the selector that finds the series of all keys at once.

Names that cannot be told apart in a provider's labels get no data and a warning: a wrong series
would be worse than none.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Protocol

from controller.adapters.prometheus.providers import (
    JOINED,
    PodLabels,
    Provider,
    ServiceLabel,
    ServiceLabels,
)
from controller.core.evidence.series import PodsKey, ServiceKey, TrackKey

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_DASHES: Final = re.compile(r"[^a-z0-9]+")

_DRAWN: Final = "[bcdfghjklmnpqrstvwxz2456789]"
"""The letters that Kubernetes draws hashes and suffixes from: no vowels, so no words."""

_HASH: Final = f"{_DRAWN}{{1,10}}"

_POD: Final = re.compile(f"(?P<deployment>.+)-(?P<hash>{_HASH})-{_DRAWN}{{5}}")

LONGEST_SERVICES: Final = 4096
"""Characters of a list of Services. Prometheus compiles the expression on every query; beyond it
every Service of the gateway costs less."""

LONGEST_PODS: Final = 16_384
"""The same for pods. It is longer, enough for some 100 runs, since what is asked for instead is
every pod of these namespaces that answers requests."""


class Names(Protocol):
    """The look-up for the keys of one provider."""

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Why some keys get no data, in words."""
        ...

    def keys(self, labels: Mapping[str, str]) -> tuple[TrackKey, ...]:
        """The keys among those asked for to which a series with these labels belongs."""
        ...

    def matchers(self, *, exact: bool = False) -> str:
        """What stands in the braces of a PromQL selector for all keys.

        Where that would be long it takes in others as well, unless it has to be `exact`.
        """
        ...


def names_of(provider: Provider, keys: Collection[TrackKey]) -> Names:
    """The look-up for keys of the kind that the provider knows.

    Raises:
        ValueError: A name is not one that Kubernetes would have accepted.
    """
    if provider.pods is not None:
        return PodNames(provider.pods, [key for key in keys if isinstance(key, PodsKey)])
    services = [key for key in keys if isinstance(key, ServiceKey)]
    if provider.service_labels is not None:
        return LabelledServices(provider.service_labels, services)
    assert provider.service is not None  # noqa: S101  # `parse` lets no other file through.
    return ServiceNames(provider.service, services)


class ServiceNames:
    """Tells which Service a label value means, for a given set of Services.

    Label values in which namespace and name run into each other are not taken apart: `a-b-c` may be
    `b-c` in `a` or `c` in `a-b`. They are looked up among the Services that are asked for; if two
    of them read the same, neither gets the series.
    """

    def __init__(self, label: ServiceLabel, services: Collection[ServiceKey]) -> None:
        """Prepare the look-up. Raises ValueError for names that cannot exist."""
        _check(part for key in services for part in (key.namespace, key.service))
        joined: dict[str, dict[tuple[str, str], list[ServiceKey]]] = {}
        asked: dict[tuple[str, str], list[ServiceKey]] = {}
        for key in sorted(set(services)):
            pair = (key.namespace, key.service)
            asked.setdefault(pair, []).append(key)
            joined.setdefault(_DASHES.sub("-", "-".join(pair)), {})[pair] = asked[pair]
        self._asked = asked
        self._joined = {
            name: next(iter(same.values())) for name, same in joined.items() if len(same) == 1
        }
        self._label = label.label
        self._texts = label.patterns
        takes_joined = any(JOINED in pattern for pattern in label.patterns)
        self.unreadable = tuple(
            f"{' and '.join('/'.join(pair) for pair in same)} read the same in this provider's "
            "metrics; no data"
            for same in joined.values()
            if takes_joined and len(same) > 1
        )
        self._patterns = tuple(
            re.compile(pattern.replace(JOINED, "(?P<joined>[a-z0-9-]+?)"))
            for pattern in label.patterns
        )
        self._seen: dict[str, tuple[TrackKey, ...]] = {}

    def keys(self, labels: Mapping[str, str]) -> tuple[TrackKey, ...]:
        """See `Names`."""
        value = labels.get(self._label, "")
        if value not in self._seen:
            self._seen[value] = tuple(self._find(value))
        return self._seen[value]

    def _find(self, value: str) -> Collection[ServiceKey]:
        for pattern in self._patterns:
            match = pattern.fullmatch(value)
            if match is None:
                continue
            groups = match.groupdict()
            if "joined" in groups:
                found = self._joined.get(groups["joined"])
            else:
                found = self._asked.get((groups["namespace"], groups["service"]))
            if found is not None:
                return found
        return ()

    def matchers(self, *, exact: bool = False) -> str:
        """See `Names`. Services are listed where that is short, else all of them are taken."""
        services = {key.service for same in self._asked.values() for key in same}
        spaces = {key.namespace for same in self._asked.values() for key in same}
        text = ""
        for joined, space, service in (
            (_listed(self._joined), _listed(spaces), _listed(services)),
            ("[a-z0-9-]+",) * 3,
        ):
            text = "|".join(
                _filled(pattern.replace(JOINED, f"(?:{joined})"), space, service)
                for pattern in self._texts
            )
            if exact or len(text) <= LONGEST_SERVICES:
                break
        return f'{self._label}=~"{_quoted(text)}"'


def _filled(pattern: str, space: str, service: str) -> str:
    """The pattern with its named groups narrowed to the names that are asked for."""
    narrowed = re.sub(r"\(\?P<namespace>[^()]*\)", f"(?:{space})", pattern)
    return re.sub(r"\(\?P<service>[^()]*\)", f"(?:{service})", narrowed)


class LabelledServices:
    """Services whose namespace and name have a label each: there is nothing to be taken apart."""

    def __init__(self, labels: ServiceLabels, services: Collection[ServiceKey]) -> None:
        """Prepare the look-up. Raises ValueError for names that cannot exist."""
        _check(part for key in services for part in (key.namespace, key.service))
        self.unreadable: tuple[str, ...] = ()
        self._labels = labels
        self._asked: dict[tuple[str, str], list[ServiceKey]] = {}
        for key in sorted(set(services)):
            self._asked.setdefault((key.namespace, key.service), []).append(key)

    def keys(self, labels: Mapping[str, str]) -> tuple[TrackKey, ...]:
        """See `Names`."""
        pair = labels.get(self._labels.namespace, ""), labels.get(self._labels.service, "")
        return tuple(self._asked.get(pair, ()))

    def matchers(self, *, exact: bool = False) -> str:
        """See `Names`. Services are listed where that is short, else by namespace."""
        spaces = _listed({space for space, _ in self._asked})
        names = _listed({name for _, name in self._asked})
        if not exact and len(names) > LONGEST_SERVICES:
            names = ".+"
        return f'{self._labels.namespace}=~"{spaces}",{self._labels.service}=~"{names}"'


class PodNames:
    """Tells whose pods answered, by the form of a pod's name: `<deployment>-<hash>-<suffix>`.

    Neither hash nor suffix has a dash in it, so that every name is read in one way: the pods of
    `checkout-canary` are never taken for pods of `checkout`.
    """

    def __init__(self, labels: PodLabels, pods: Collection[PodsKey]) -> None:
        """Prepare the look-up. Raises ValueError for names that cannot exist."""
        _check(part for key in pods for part in (key.namespace, key.deployment))
        _check(key.hash for key in pods if key.hash)
        self._labels = labels
        cut = {key for key in pods if key.is_cut}
        self.unreadable = tuple(
            f"the names of the {key} are so long that Kubernetes cuts the hash; no data"
            for key in sorted(cut)
        )
        self._pods = sorted(set(pods) - cut)
        self._asked: dict[tuple[str, str, str], list[PodsKey]] = {}
        for key in self._pods:
            self._asked.setdefault((key.namespace, key.deployment, key.hash), []).append(key)

    def keys(self, labels: Mapping[str, str]) -> tuple[TrackKey, ...]:
        """See `Names`. A pod belongs to its own hash, and to all hashes where those are asked."""
        match = _POD.fullmatch(labels.get(self._labels.pod, ""))
        if match is None:
            return ()
        space, deployment = labels.get(self._labels.namespace, ""), match["deployment"]
        return (
            *self._asked.get((space, deployment, match["hash"]), ()),
            *self._asked.get((space, deployment, ""), ()),
        )

    def matchers(self, *, exact: bool = False) -> str:
        """See `Names`. Pods are listed by ReplicaSet where that is short, else by namespace."""
        stems = _listed({f"{key.deployment}-{key.hash or _HASH}" for key in self._pods})
        if not exact and len(stems) > LONGEST_PODS:
            stems = f".+-{_HASH}"
        spaces = _listed({key.namespace for key in self._pods})
        return (
            f'{self._labels.namespace}=~"{_quoted(spaces)}",'
            f'{self._labels.pod}=~"{_quoted(f"(?:{stems})-{_DRAWN}{{5}}")}"'
        )

    def parted(self, pods: Collection[str]) -> tuple[str, str]:
        """What stands in the braces for these pods alone, and for all the others of the keys.

        Raises:
            ValueError: One of them is no name of a pod of a Deployment.
        """
        _check(pods)
        stems: dict[str, set[str]] = {}
        for pod in pods:
            # Each stem once: a hundred pods make a text that goes into an address.
            stem, _, suffix = pod.rpartition("-")
            stems.setdefault(stem, set()).add(suffix)
        spaces = _quoted(_listed({key.namespace for key in self._pods}))
        named = "|".join(f"{_listed([stem])}-(?:{_listed(s)})" for stem, s in sorted(stems.items()))
        text = _quoted(named)
        mine = f'{self._labels.namespace}=~"{spaces}",{self._labels.pod}=~"{text}"'
        return mine, f'{self.matchers(exact=True)},{self._labels.pod}!~"{text}"'


def _check(parts: Iterable[str]) -> None:
    """Only what Kubernetes accepts as a name reaches a query: nothing in it has to be escaped."""
    for part in parts:
        if not _NAME.fullmatch(part):
            raise ValueError(f"{part!r} is no name of a namespace, Service or Deployment")


def _listed(parts: Collection[str]) -> str:
    """An alternation, in which the dot of a name is no more than itself."""
    return "|".join(sorted(part.replace(".", "[.]") for part in parts))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
