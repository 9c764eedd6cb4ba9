# SPDX-License-Identifier: Apache-2.0
"""How the text of each setting of the daemon is read; each raises ValueError with a sentence."""

import ipaddress
import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from controller.core.values import is_name, is_namespace

LEVELS: Final = ("debug", "info", "warning", "error")
MOST_TARGET: Final = 200
"""The names that we make of it are longer, and an object's has at most 253 characters."""

_HOST: Final = "_SERVICE_HOST"
_LINK: Final = r"_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_[A-Z]+(?:_(?:PROTO|PORT|ADDR))?)?)"
"""What stands behind a Service's name in the variables that Kubernetes makes of it."""

KINDS: Final = frozenset({"deployment", "deployments", "deploy", "deployments.apps"})


def seconds(text: str) -> float:
    """Seconds, up to a day."""
    value = float(text.removesuffix("s"))
    if not 0 <= value <= 86_400:
        message = "must be between 0 and 86400 seconds"
        raise ValueError(message)
    return value


def interval(text: str) -> float:
    """Seconds, at least one."""
    value = seconds(text)
    if value < 1:
        message = "must be at least 1 second"
        raise ValueError(message)
    return value


def namespace(text: str) -> str:
    """The name of a namespace."""
    if not is_namespace(text):
        message = "must be the name of a namespace"
        raise ValueError(message)
    return text


def provider(text: str) -> str:
    """The name of a provider file."""
    known = _providers()
    if text not in known:
        message = f"must be one of {', '.join(known)}"
        raise ValueError(message)
    return text


def _providers() -> list[str]:
    """Names of the provider files, without reading them: `--help` needs nothing else."""
    folder = resources.files("controller.adapters.prometheus") / "providers"
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def address(text: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65_535:
        message = "must be HOST:PORT, such as 127.0.0.1:8340"
        raise ValueError(message)
    return host.strip("[]"), int(port)


def url(text: str) -> str:
    """An address of HTTP."""
    message = "must be an address such as http://prometheus.monitoring:9090"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(message) from error
    if not usable:
        raise ValueError(message)
    return text.rstrip("/")


def cap(text: str) -> int:
    """A percentage, in basis points."""
    value = float(text.removesuffix("%"))
    if not 0 <= value <= 100:
        message = "must be a percentage between 0 and 100"
        raise ValueError(message)
    return round(value * 100)


def namespace_cap(text: str) -> tuple[str, int]:
    """NAMESPACE=PERCENT."""
    space, equals, share = text.partition("=")
    if not equals:
        message = "must be NAMESPACE=PERCENT, such as shop=10"
        raise ValueError(message)
    return namespace(space), cap(share)


def level(text: str) -> str:
    """A level of the log."""
    if text.lower() not in LEVELS:
        message = f"must be one of {', '.join(LEVELS)}"
        raise ValueError(message)
    return text.lower()


def switch(text: str) -> bool:
    """`on` or `off`."""
    if text not in {"on", "off"}:
        message = "must be on or off"
        raise ValueError(message)
    return text == "on"


def lease(text: str) -> float:
    """Seconds of a lease, whole ones as the API keeps them."""
    value = float(text.removesuffix("s"))
    if not 3 <= value <= 60 or value != int(value):
        message = "must be a whole number of seconds between 3 and 60"
        raise ValueError(message)
    return value


def deployment(text: str) -> str:
    """`deployment/NAME`."""
    kind, slash, name = text.partition("/")
    if slash and kind.lower() not in KINDS:
        message = f"must be deployment/NAME; {kind!r} cannot be a target"
        raise ValueError(message)
    if not slash or not is_name(name) or len(name) > MOST_TARGET:
        message = f"must be deployment/NAME, with a name of at most {MOST_TARGET} characters"
        raise ValueError(message)
    return name


def named(text: str) -> str:
    """The name of an object."""
    if not is_name(text):
        message = "must be the name of an object"
        raise ValueError(message)
    return text


def route(text: str) -> tuple[str, str]:
    """`HTTPRoute/NAME` or `GRPCRoute/NAME`."""
    kind, _, rest = text.partition("/")
    if kind not in {"HTTPRoute", "GRPCRoute"} or not is_name(rest):
        message = "must be HTTPRoute/NAME or GRPCRoute/NAME"
        raise ValueError(message)
    return kind, rest


def linked(names: Collection[str]) -> set[str]:
    """Those of these variables by which Kubernetes tells a container of the Services beside it.

    A Service called `switchgear-x` has some that begin as ours do. Each comes together with the
    Service's `_SERVICE_HOST`, so what only looks like one is none.
    """
    services = [name.removesuffix(_HOST) for name in names if name.endswith(_HOST)]
    patterns = [re.compile(re.escape(service) + _LINK, re.ASCII) for service in services]
    return {name for name in names if any(one.fullmatch(name) for one in patterns)}


def is_loopback(host: str) -> bool:
    """Whether an address to listen on stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def there(file: Path) -> bool:
    """Whether there is such a file; a name that no file may have is none."""
    try:
        return file.is_file()
    except (OSError, ValueError):
        return False


def usable(file: Path) -> bool:
    """Whether a token stands there, or may still come: a Secret may be mounted before it exists.

    The file is read at each call, so until it comes the doors let nobody in.
    """
    try:
        if not file.exists() and file.parent.is_dir():
            return True
        return bool(file.read_text().strip())
    except (OSError, ValueError):
        return False
