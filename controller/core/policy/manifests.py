# SPDX-License-Identifier: Apache-2.0
"""The few facts of a pile of manifests that a linter needs.

Manifests come from templates and from people, so any field may be missing or of another type than
Kubernetes wants. What cannot be read counts as absent: the API server will say so itself, and here
it must not hide the problems that can be seen.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controller.core.policy.model import Problem
from controller.core.values import PREFIX, RouteKind

ObjectName = tuple[str, str]
"""Namespace and name."""

WEIGHABLE: Final = frozenset(kind.value for kind in RouteKind)
PATHS: Final = WEIGHABLE | {"Ingress", "TCPRoute", "TLSRoute", "UDPRoute"}
"""Kinds that lead requests to a Service."""

# kubectl uses the context's namespace; the files alone cannot know it, and any one name will do.
_DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A Deployment, or another kind that somebody annotated like one."""

    kind: str
    namespace: str
    name: str
    annotations: Mapping[str, str]
    unreadable: tuple[str, ...] = ()
    """Annotation keys of ours whose value is no text."""
    template_annotations: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the pods."""
    replicas: int = 1
    strategy: str = "RollingUpdate"
    history: int = 10
    """`revisionHistoryLimit`."""
    claims: tuple[str, ...] = ()
    """PersistentVolumeClaims that the pods mount."""

    def __str__(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service by what it selects."""

    namespace: str
    name: str
    selector: Mapping[str, str]

    def selects(self, workload: Workload) -> bool:
        """Whether pods of the workload are behind this Service."""
        return (
            self.namespace == workload.namespace
            and bool(self.selector)
            and self.selector.items() <= workload.labels.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A route, an Ingress or the like, by the Services that it leads to."""

    kind: str
    namespace: str
    name: str
    backends: frozenset[ObjectName]

    def __str__(self) -> str:
        """`HTTPRoute namespace/name`."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that the manifests say. `complete` means that nothing exists beside them."""

    workloads: tuple[Workload, ...] = ()
    services: tuple[Service, ...] = ()
    paths: tuple[Path, ...] = ()
    once_claims: frozenset[ObjectName] = frozenset()
    """PersistentVolumeClaims that only one node or one pod may mount."""
    complete: bool = False

    @property
    def knows_services(self) -> bool:
        """Whether the absence of a Service means anything."""
        return self.complete or bool(self.services)

    @property
    def knows_routes(self) -> bool:
        """Whether the absence of a route means anything."""
        return self.complete or any(path.kind in WEIGHABLE for path in self.paths)


def read(documents: Iterable[object], *, complete: bool = False) -> World:
    """The facts of decoded manifests; lists of objects are opened, other kinds left out."""
    objects = [item for document in documents for item in _opened(document)]
    return World(
        workloads=tuple(_workload(item) for item in objects if _is_workload(item)),
        services=tuple(
            Service(
                namespace=_namespace(item),
                name=_name(item),
                selector=_texts(_dict(item, "spec", "selector")),
            )
            for item in objects
            if item.get("kind") == "Service"
        ),
        paths=tuple(
            Path(
                kind=str(item["kind"]),
                namespace=_namespace(item),
                name=_name(item),
                backends=frozenset(_backends(item)),
            )
            for item in objects
            if item.get("kind") in PATHS
        ),
        once_claims=frozenset(
            (_namespace(item), _name(item)) for item in objects if _is_mounted_once(item)
        ),
        complete=complete,
    )


def unreadable(workload: Workload) -> tuple[Problem, ...]:
    """Annotations whose value is a number or a truth value and not a text, as YAML likes to do."""
    return tuple(
        Problem(
            key=key,
            code="AnnotationNotText",
            message="the value is not a text, and Kubernetes would refuse it",
            hint="put it into quotes",
        )
        for key in workload.unreadable
    )


def _opened(document: object) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        return
    kind = document.get("kind")
    if not isinstance(kind, str):
        return
    if kind.endswith("List"):
        yield from (item for item in _list(document, "items") if isinstance(item.get("kind"), str))
    else:
        yield document


def _is_workload(item: Mapping[str, Any]) -> bool:
    if item.get("kind") == "Deployment":
        return True
    # On a Service or a route our annotations are our own marks; where there are pods, somebody
    # hoped for a canary.
    return bool(_dict(item, "spec", "template")) and any(
        str(key).startswith(PREFIX) for key in _dict(item, "metadata", "annotations")
    )


def _workload(item: Mapping[str, Any]) -> Workload:
    annotations = _dict(item, "metadata", "annotations")
    history = _dict(item, "spec").get("revisionHistoryLimit")
    replicas = _dict(item, "spec").get("replicas", 1)
    volumes = _list(item, "spec", "template", "spec", "volumes")
    claims = (_dict(volume, "persistentVolumeClaim").get("claimName") for volume in volumes)
    return Workload(
        kind=str(item["kind"]),
        namespace=_namespace(item),
        name=_name(item),
        annotations=_texts(annotations),
        unreadable=tuple(
            key.removeprefix(PREFIX)
            for key, value in annotations.items()
            if isinstance(key, str) and key.startswith(PREFIX) and not isinstance(value, str)
        ),
        template_annotations=frozenset(
            _texts(_dict(item, "spec", "template", "metadata", "annotations"))
        ),
        labels=_texts(_dict(item, "spec", "template", "metadata", "labels")),
        replicas=replicas if isinstance(replicas, int) else 1,
        strategy=str(_dict(item, "spec", "strategy").get("type", "RollingUpdate")),
        history=history if isinstance(history, int) else 10,
        claims=tuple(claim for claim in claims if isinstance(claim, str)),
    )


def _backends(item: Mapping[str, Any]) -> Iterator[ObjectName]:
    here = _namespace(item)
    for rule in _list(item, "spec", "rules"):
        for ref in _list(rule, "backendRefs"):
            if ref.get("kind", "Service") == "Service" and isinstance(ref.get("name"), str):
                yield str(ref.get("namespace", here)), ref["name"]
        for path in _list(rule, "http", "paths"):
            yield from _ingress_backend(here, _dict(path, "backend"))
    yield from _ingress_backend(here, _dict(item, "spec", "defaultBackend"))


def _ingress_backend(namespace: str, backend: Mapping[str, Any]) -> Iterator[ObjectName]:
    name = _dict(backend, "service").get("name")
    if isinstance(name, str):
        yield namespace, name


def _is_mounted_once(item: Mapping[str, Any]) -> bool:
    modes = _dict(item, "spec").get("accessModes")
    return (
        item.get("kind") == "PersistentVolumeClaim"
        and isinstance(modes, list)
        and bool(modes)
        and all(str(mode) in {"ReadWriteOnce", "ReadWriteOncePod"} for mode in modes)
    )


def _name(item: Mapping[str, Any]) -> str:
    return str(_dict(item, "metadata").get("name", ""))


def _namespace(item: Mapping[str, Any]) -> str:
    return str(_dict(item, "metadata").get("namespace") or _DEFAULT_NAMESPACE)


def _dict(item: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """The object at `path`; an empty one where there is none."""
    found: object = item
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else {}


def _list(item: Mapping[str, Any], *path: str) -> list[dict[str, Any]]:
    """The objects in the list at `path`; whatever else stands there is left out."""
    found = _dict(item, *path[:-1]).get(path[-1])
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _texts(items: Mapping[Any, Any]) -> dict[str, str]:
    return {k: v for k, v in items.items() if isinstance(k, str) and isinstance(v, str)}
