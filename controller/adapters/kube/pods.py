# SPDX-License-Identifier: Apache-2.0
"""Canary pods, their endpoints and our own ConfigMaps, as the caches hold them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from controller.adapters.kube.objects import Held, Meta, held
from controller.core.errors import Unavailable
from controller.core.observation import Pod

BENIGN: Final = ("ContainerCreating", "PodInitializing", "")
"""Waiting reasons that every healthy start passes through; any other one outranks them."""


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    reason: str = ""


class _State(msgspec.Struct, frozen=True, gc=False):
    waiting: _Waiting | None = None
    terminated: _Waiting | None = None


class _Container(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    restart_count: int = 0
    state: _State = _State()
    last_state: _State = _State()


class _Condition(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    status: str = ""


class _PodStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    phase: str = ""
    conditions: tuple[_Condition, ...] | None = None
    container_statuses: tuple[_Container, ...] | None = None
    init_container_statuses: tuple[_Container, ...] | None = None


class _Pod(msgspec.Struct, frozen=True, gc=False):
    metadata: Meta
    status: _PodStatus = _PodStatus()


_POD: Final = msgspec.json.Decoder(_Pod)


def parse_pod(raw: bytes | msgspec.Raw, old: Held[Pod] | None) -> Held[Pod]:
    """A pod. Raises msgspec.MsgspecError if it is not one."""
    item = _POD.decode(raw)
    meta, status = item.metadata, item.status
    containers = (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
    ready = any(c.type == "Ready" and c.status == "True" for c in status.conditions or ())
    before = old is not None and old.uid == meta.uid and old.value.was_ready
    value = Pod(
        name=meta.name,
        uid=meta.uid,
        phase=status.phase,
        ready=ready,
        waiting=_worst(containers),
        restarts=sum(item.restart_count for item in containers),
        oom_killed=any(_oom(item.state) or _oom(item.last_state) for item in containers),
        deleting=meta.deletion_timestamp is not None,
        was_ready=ready or before,
    )
    return held(meta, value)


class _Pods(msgspec.Struct, frozen=True, gc=False):
    items: tuple[msgspec.Raw, ...] | None = None


_PODS: Final = msgspec.json.Decoder(_Pods)


def parse_pods(body: bytes) -> tuple[Pod, ...]:
    """The pods of a list by name, with who is nobody's. Raises `Unavailable` if it is no list."""
    try:
        found = [parse_pod(raw, None) for raw in _PODS.decode(body).items or ()]
    except msgspec.MsgspecError as error:
        raise Unavailable("the list of pods cannot be read") from error
    pods = (replace(item.value, orphan=not item.owner_uid) for item in found)
    return tuple(sorted(pods, key=lambda pod: pod.name))


def _worst(containers: tuple[_Container, ...]) -> str:
    reasons = [item.state.waiting.reason for item in containers if item.state.waiting]
    return min(reasons, key=lambda reason: reason in BENIGN, default="")


def _oom(state: _State) -> bool:
    return state.terminated is not None and state.terminated.reason == "OOMKilled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One EndpointSlice: how many endpoints of its Service are ready in one address family."""

    service: str
    family: str
    ready: int


SERVICE_NAME: Final = "kubernetes.io/service-name"
"""The label of a slice that says whose it is."""


class _Conditions(msgspec.Struct, frozen=True, gc=False):
    ready: bool | None = None


class _Ref(msgspec.Struct, frozen=True, gc=False):
    kind: str = ""
    name: str = ""


class _Endpoint(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    conditions: _Conditions | None = None
    target_ref: _Ref | None = None

    @property
    def ready(self) -> bool:
        """The API says that an unknown condition (null) is to be read as ready."""
        return self.conditions is None or self.conditions.ready is not False


class _Slice(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    metadata: Meta
    address_type: str = ""
    endpoints: tuple[_Endpoint, ...] | None = None


_SLICE: Final = msgspec.json.Decoder(_Slice)


def parse_slice(raw: bytes | msgspec.Raw, _old: Held[Slice] | None) -> Held[Slice]:
    """An EndpointSlice. Raises msgspec.MsgspecError if it is not one."""
    item = _SLICE.decode(raw)
    ready = sum(endpoint.ready for endpoint in item.endpoints or ())
    service = (item.metadata.labels or {}).get(SERVICE_NAME, "")
    return held(item.metadata, Slice(service=service, family=item.address_type, ready=ready))


class _Slices(msgspec.Struct, frozen=True, gc=False):
    items: tuple[_Slice, ...] | None = None


_SLICES: Final = msgspec.json.Decoder(_Slices)


def led_by(body: bytes, services: Iterable[str]) -> dict[str, frozenset[str]]:
    """The ready pods that each Service leads to, out of a list of EndpointSlices.

    Raises:
        Unavailable: It is no such list.
    """
    try:
        slices = _SLICES.decode(body).items or ()
    except msgspec.MsgspecError as error:
        raise Unavailable("the list of EndpointSlices cannot be read") from error
    found: dict[str, set[str]] = {name: set() for name in services}
    for item in slices:
        pods = found.setdefault((item.metadata.labels or {}).get(SERVICE_NAME, ""), set())
        pods.update(
            endpoint.target_ref.name
            for endpoint in item.endpoints or ()
            if endpoint.ready and endpoint.target_ref and endpoint.target_ref.kind == "Pod"
        )
    return {name: frozenset(pods) for name, pods in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap:
    """A document in the controller's namespace."""

    data: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class _ConfigMap(msgspec.Struct, frozen=True, gc=False):
    metadata: Meta
    data: dict[str, str] | None = None


_CONFIG_MAP: Final = msgspec.json.Decoder(_ConfigMap)


def parse_config_map(raw: bytes | msgspec.Raw, _old: Held[ConfigMap] | None) -> Held[ConfigMap]:
    """A ConfigMap. Raises msgspec.MsgspecError if it is not one."""
    item = _CONFIG_MAP.decode(raw)
    return held(item.metadata, ConfigMap(data=item.data or {}, labels=item.metadata.labels or {}))
