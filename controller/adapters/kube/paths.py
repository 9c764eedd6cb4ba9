# SPDX-License-Identifier: Apache-2.0
"""Where objects live below the API server's root."""

from urllib.parse import quote

from controller.adapters.kube.routes import GROUP
from controller.core.values import RouteRef


def _named(prefix: str, namespace: str, plural: str, name: str) -> str:
    within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    base = f"{prefix}{within}/{plural}"
    return f"{base}/{quote(name, safe='')}" if name else base


def core(namespace: str, plural: str, name: str = "") -> str:
    """Of the core group; without a name, the collection."""
    return _named("/api/v1", namespace, plural, name)


def apps(namespace: str, plural: str, name: str = "") -> str:
    """Of the group apps."""
    return _named("/apis/apps/v1", namespace, plural, name)


def grouped(group: str, version: str, namespace: str, plural: str, name: str = "") -> str:
    """Of any other group; without a namespace, of all of them."""
    return _named(f"/apis/{group}/{version}", namespace, plural, name)


def route(ref: RouteRef) -> str:
    """Of a HTTPRoute or GRPCRoute."""
    return grouped(GROUP, "v1", ref.namespace, f"{ref.kind.lower()}s", ref.name)
