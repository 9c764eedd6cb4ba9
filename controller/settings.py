# SPDX-License-Identifier: Apache-2.0
"""Settings of the daemon: one table drives flags, environment and help.

Values come from a flag, else from `SWITCHGEAR_<NAME>`, else from the default. `load` returns the
settings or every problem at once, so that nobody mends one line to meet the next.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from controller.core.policy.model import Problem
from controller.core.values import is_namespace

ENVIRONMENT: Final = "SWITCHGEAR_"
LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its name in the program, what it means, its default, and how it is read."""

    name: str
    help: str
    default: object
    read: Callable[[str], object]
    many: bool = False

    @property
    def flag(self) -> str:
        """The flag: `--prometheus-url` for `prometheus_url`; some have a short form."""
        return "--" + FLAGS.get(self.name, self.name.replace("_", "-"))

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT + self.flag.removeprefix("--").replace("-", "_").upper()


FLAGS: Final = {
    "namespaces": "namespace",
    "providers": "provider",
    "prometheus_url": "prometheus",
    "cluster_cap_bp": "cluster-cap",
    "namespace_caps_bp": "namespace-cap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the daemon is told at its start; see `TABLE` for units and consequences."""

    kubeconfig: str | None
    context: str | None
    namespaces: tuple[str, ...]
    controller_namespace: str
    prometheus_url: str
    providers: tuple[str, ...]
    listen: tuple[str, int]
    token_file: Path | None
    cluster_cap_bp: int | None
    namespace_caps_bp: tuple[tuple[str, int], ...]
    settle_seconds: float
    drain_seconds: float
    ready_seconds: float
    roll_seconds: float
    resync_seconds: float
    log_level: str


def _seconds(text: str) -> float:
    value = float(text.removesuffix("s"))
    if not 0 <= value <= 86_400:
        message = "must be between 0 and 86400 seconds"
        raise ValueError(message)
    return value


def _interval(text: str) -> float:
    value = _seconds(text)
    if value < 1:
        message = "must be at least 1 second"
        raise ValueError(message)
    return value


def _namespace(text: str) -> str:
    if not is_namespace(text):
        message = "must be the name of a namespace"
        raise ValueError(message)
    return text


def _provider(text: str) -> str:
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


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65_535:
        message = "must be HOST:PORT, such as 127.0.0.1:8340"
        raise ValueError(message)
    return host.strip("[]"), int(port)


def _url(text: str) -> str:
    message = "must be an address such as http://prometheus.monitoring:9090"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(message) from error
    if not usable:
        raise ValueError(message)
    return text.rstrip("/")


def _cap(text: str) -> int:
    value = float(text.removesuffix("%"))
    if not 0 <= value <= 100:
        message = "must be a percentage between 0 and 100"
        raise ValueError(message)
    return round(value * 100)


def _namespace_cap(text: str) -> tuple[str, int]:
    namespace, equals, cap = text.partition("=")
    if not equals:
        message = "must be NAMESPACE=PERCENT, such as shop=10"
        raise ValueError(message)
    return _namespace(namespace), _cap(cap)


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        message = f"must be one of {', '.join(LEVELS)}"
        raise ValueError(message)
    return text.lower()


TABLE: Final = (
    Setting(
        name="kubeconfig",
        help="Path of a kubeconfig; without one as kubectl finds it, or in the cluster.",
        default=None,
        read=str,
    ),
    Setting(name="context", help="Context of the kubeconfig.", default=None, read=str),
    Setting(
        name="namespaces",
        help="Namespace to watch; repeatable (environment: separated by commas). None means all.",
        default=(),
        read=_namespace,
        many=True,
    ),
    Setting(
        name="controller_namespace",
        help="Namespace of the run documents, the kill latch and the epoch.",
        default="switchgear",
        read=_namespace,
    ),
    Setting(
        name="prometheus_url",
        help="Address of Prometheus, or of anything that speaks its query API. Required.",
        default="",
        read=_url,
    ),
    Setting(
        name="providers",
        help="Whose metrics judge where a policy names none: a gateway's provider and one for runs "
        "without a gateway; repeatable, the first that fits counts.",
        default=("traefik", "application"),
        read=_provider,
        many=True,
    ),
    Setting(
        name="listen",
        help="Address of the HTTP doors. Beyond loopback it needs --token-file.",
        default=("127.0.0.1", 8340),
        read=_address,
    ),
    Setting(
        name="token_file",
        help="File with the token that callers below /v1 must send; read at each call.",
        default=None,
        read=Path,
    ),
    Setting(
        name="cluster_cap_bp",
        help="Cap on every canary's share, in percent, whatever its policy says; none by default.",
        default=None,
        read=_cap,
    ),
    Setting(
        name="namespace_caps_bp",
        help="Cap on every canary's share in one namespace, as NAMESPACE=PERCENT; repeatable. The "
        "least of all caps counts.",
        default=(),
        read=_namespace_cap,
        many=True,
    ),
    Setting(
        name="settle_seconds",
        help="How long the gateway may take from an accepted route to one in force. Too small a "
        "value opens the evidence window early and stops pods that still get requests.",
        default=2.5,
        read=_seconds,
    ),
    Setting(
        name="drain_seconds",
        help="How long requests under way may take after weight 0 before their pods go.",
        default=3.0,
        read=_seconds,
    ),
    Setting(
        name="ready_seconds",
        help="How long canary pods may take to become ready; then the run ends inconclusive.",
        default=300.0,
        read=_seconds,
    ),
    Setting(
        name="roll_seconds",
        help="How long the native roll after the commit may take; then it is undone.",
        default=900.0,
        read=_seconds,
    ),
    Setting(
        name="resync_seconds",
        help="How often the caches are compared with a fresh list.",
        default=50.0,
        read=_interval,
    ),
    Setting(
        name="log_level",
        help=f"Least level of the JSON log on stderr: {', '.join(LEVELS)}.",
        default="info",
        read=_level,
    ),
)


def load(
    flags: Mapping[str, Any], environment: Mapping[str, str]
) -> Settings | tuple[Problem, ...]:
    """The settings, or all problems. `flags` has texts by setting name; None means not given."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for setting in TABLE:
        found, where = _told(setting, flags, environment)
        try:
            values[setting.name] = _read(setting, found)
        except ValueError as error:
            shown = ",".join(found) if isinstance(found, tuple) else found
            problems.append(
                Problem(key=where, code="InvalidSetting", message=f"{shown!r}: {_words(error)}")
            )
    known = {setting.variable for setting in TABLE} | KNOWN_ELSEWHERE
    problems += [
        Problem(
            key=name,
            code="UnknownSetting",
            message="no setting of that name; `switchgear run --help` lists them",
        )
        for name in sorted(environment)
        if name.startswith(ENVIRONMENT) and name not in known
    ]
    problems += _contradictions(values)
    return tuple(problems) if problems else Settings(**values)


KNOWN_ELSEWHERE: Final = {ENVIRONMENT + "SERVER", ENVIRONMENT + "PROMETHEUS_BIN"}
"""Variables of the other commands, which are no mistake in the daemon's environment."""


def _told(
    setting: Setting, flags: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[Any, str]:
    given = flags.get(setting.name)
    if given not in (None, ()):
        return given, setting.flag
    text = environment.get(setting.variable)
    if text:
        parts: Any = [part.strip() for part in text.split(",") if part.strip()]
        return (tuple(parts) if setting.many else text), setting.variable
    return None, setting.flag


def _read(setting: Setting, found: Any) -> object:
    if found is None:
        return setting.default
    if setting.many:
        texts: Sequence[str] = found
        return tuple(setting.read(text) for text in texts)
    return setting.read(found)


def _words(error: ValueError) -> str:
    text = str(error)
    return text if text.startswith("must") else "must be a number"


def _contradictions(values: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    if values.get("prometheus_url") == "":
        problems.append(
            Problem(
                key="--prometheus",
                code="MissingSetting",
                message="no address of Prometheus; without measurements nothing is promoted",
                hint="give --prometheus http://HOST:9090",
            )
        )
    listen = values.get("listen")
    if listen and values.get("token_file") is None and not is_loopback(listen[0]):
        problems.append(
            Problem(
                key="--listen",
                code="OpenDoor",
                message=f"{listen[0]} is reached from beyond this machine and there is no token",
                hint="give --token-file FILE, or listen on 127.0.0.1",
            )
        )
    token = values.get("token_file")
    if token is not None and not _readable(token):
        problems.append(
            Problem(
                key="--token-file",
                code="NoToken",
                message=f"{token} cannot be read or is empty",
                hint="write one long random line into it",
            )
        )
    config = values.get("kubeconfig")
    if config is not None and not Path(config).is_file():
        problems.append(
            Problem(
                key="--kubeconfig",
                code="NoKubeconfig",
                message=f"there is no file {config}",
                hint="name one, or leave it out to have it found as kubectl does",
            )
        )
    return problems


def _readable(file: Path) -> bool:
    try:
        return bool(file.read_text().strip())
    except (OSError, UnicodeDecodeError):
        return False


def is_loopback(host: str) -> bool:
    """Whether an address to listen on stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
