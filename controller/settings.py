# SPDX-License-Identifier: Apache-2.0
"""Settings of the daemon: one table drives flags, environment and help.

Values come from a flag, else from `SWITCHGEAR_<NAME>`, else from the default. `load` returns the
settings or every problem at once, so that nobody mends one line to meet the next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller import readers
from controller.core.policy.model import Problem

ENVIRONMENT: Final = "SWITCHGEAR_"


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
    "services": "service",
    "routes": "route",
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
    settle_seconds: float | None
    drain_seconds: float
    ready_seconds: float
    roll_seconds: float
    resync_seconds: float
    leader_election: bool
    lease_seconds: float
    advertise: tuple[str, int] | None
    target: str
    services: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    pod_name: str
    pod_hash: str
    pod_track: str
    service_account_dir: Path | None
    log_level: str


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
        read=readers.namespace,
        many=True,
    ),
    Setting(
        name="controller_namespace",
        help="Namespace of the run documents, the kill latch and the epoch.",
        default="switchgear",
        read=readers.namespace,
    ),
    Setting(
        name="prometheus_url",
        help="Address of Prometheus, or of anything that speaks its query API. Required.",
        default="",
        read=readers.url,
    ),
    Setting(
        name="providers",
        help="Whose metrics judge where a policy names none: a gateway's provider and one for runs "
        "without a gateway; repeatable, the first that fits counts.",
        default=("traefik", "application"),
        read=readers.provider,
        many=True,
    ),
    Setting(
        name="listen",
        help="Address of the HTTP doors. Beyond loopback it needs --token-file.",
        default=("127.0.0.1", 8340),
        read=readers.address,
    ),
    Setting(
        name="token_file",
        help="File with the token that callers below /v1 must send; read at each call. While it is "
        "not there nobody is let in.",
        default=None,
        read=Path,
    ),
    Setting(
        name="cluster_cap_bp",
        help="Cap on every canary's share, in percent, whatever its policy says; none by default.",
        default=None,
        read=readers.cap,
    ),
    Setting(
        name="namespace_caps_bp",
        help="Cap on every canary's share in one namespace, as NAMESPACE=PERCENT; repeatable. The "
        "least of all caps counts.",
        default=(),
        read=readers.namespace_cap,
        many=True,
    ),
    Setting(
        name="settle_seconds",
        help="How long the gateway may take from an accepted route to one in force; by default "
        "what its provider's file says. Too small a value opens the evidence window early and "
        "stops pods that still get requests.",
        default=None,
        read=readers.seconds,
    ),
    Setting(
        name="drain_seconds",
        help="How long requests under way may take after weight 0 before their pods go.",
        default=3.0,
        read=readers.seconds,
    ),
    Setting(
        name="ready_seconds",
        help="How long canary pods may take to become ready; then the run ends inconclusive.",
        default=300.0,
        read=readers.seconds,
    ),
    Setting(
        name="roll_seconds",
        help="How long the native roll after the commit may take; then it is undone.",
        default=900.0,
        read=readers.seconds,
    ),
    Setting(
        name="resync_seconds",
        help="How often the caches are compared with a fresh list.",
        default=50.0,
        read=readers.interval,
    ),
    Setting(
        name="leader_election",
        help="on: of several replicas one acts and the others stand by; each of them obeys a kill. "
        "off: this process acts, whoever else does. A sidecar always has it on.",
        default=False,
        read=readers.switch,
    ),
    Setting(
        name="lease_seconds",
        help="How long a leader that has died keeps the others waiting; one that was asked to end "
        "makes way at once.",
        default=10.0,
        read=readers.lease,
    ),
    Setting(
        name="advertise",
        help="Where the other replicas reach our doors, as HOST:PORT; by default --listen, if that "
        "is one address beyond loopback. What moves toward risk is passed on to the leader there.",
        default=None,
        read=readers.address,
    ),
    Setting(
        name="target",
        help="deployment/NAME: run as a sidecar in this Deployment's own pods, for it alone, in "
        "the one namespace that is given, where documents and lease are kept as well.",
        default="",
        read=readers.deployment,
    ),
    Setting(
        name="services",
        help="With --target: Service in front of its pods; repeatable. By default of its name.",
        default=(),
        read=readers.named,
        many=True,
    ),
    Setting(
        name="routes",
        help="With --target: route to those Services, as HTTPRoute/NAME or GRPCRoute/NAME; "
        "repeatable. By default the HTTPRoute of its name.",
        default=(),
        read=readers.route,
        many=True,
    ),
    Setting(
        name="pod_name",
        help="Name of the pod that this process runs in, for the lease. By default the host's.",
        default="",
        read=readers.named,
    ),
    Setting(
        name="pod_hash",
        help="With --target: the pod's label pod-template-hash (the downward API has it), which "
        "says whether it runs the version that is trusted, so that it may lead.",
        default="",
        read=str,
    ),
    Setting(
        name="pod_track",
        help="With --target: the pod's label switchgear.dev/track; a canary never leads.",
        default="",
        read=str,
    ),
    Setting(
        name="service_account_dir",
        help="Folder with token, ca.crt and namespace of a service account that is mounted "
        "elsewhere than usual, such as a projected volume for this container alone.",
        default=None,
        read=Path,
    ),
    Setting(
        name="log_level",
        help=f"Least level of the JSON log on stderr: {', '.join(readers.LEVELS)}.",
        default="info",
        read=readers.level,
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
    ours = {name for name in environment if name.startswith(ENVIRONMENT)}
    known = {setting.variable for setting in TABLE} | KNOWN_ELSEWHERE | readers.linked(ours)
    problems += [
        Problem(
            key=name,
            code="UnknownSetting",
            message="no setting of that name; `switchgear run --help` lists them",
        )
        for name in sorted(ours - known)
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
    if listen and values.get("token_file") is None and not readers.is_loopback(listen[0]):
        problems.append(
            Problem(
                key="--listen",
                code="OpenDoor",
                message=f"{listen[0]} is reached from beyond this machine and there is no token",
                hint="give --token-file FILE, or listen on 127.0.0.1",
            )
        )
    token = values.get("token_file")
    if token is not None and not readers.usable(token):
        problems.append(
            Problem(
                key="--token-file",
                code="NoToken",
                message=f"{token} cannot be read or is empty",
                hint="write one long random line into it",
            )
        )
    config = values.get("kubeconfig")
    if config is not None and not readers.there(Path(config)):
        problems.append(
            Problem(
                key="--kubeconfig",
                code="NoKubeconfig",
                message=f"there is no file {config}",
                hint="name one, or leave it out to have it found as kubectl does",
            )
        )
    return problems + _sidecar(values)


def _sidecar(values: Mapping[str, Any]) -> list[Problem]:
    """What goes with --target, and what goes only with it."""
    problems: list[Problem] = []
    if values.get("target"):
        if len(values.get("namespaces", ())) != 1:
            problems.append(
                Problem(
                    key="--target",
                    code="NoNamespace",
                    message="a target lives in exactly one namespace",
                    hint="give --namespace once",
                )
            )
        if not values.get("pod_hash"):
            problems.append(
                Problem(
                    key="--pod-hash",
                    code="UnknownPod",
                    message="without the pod's label it cannot be told whether this pod may lead",
                    hint="set SWITCHGEAR_POD_HASH from metadata.labels['pod-template-hash']",
                )
            )
        return problems
    return [
        Problem(
            key=key,
            code="NoTarget",
            message="says something only together with --target",
            hint="give --target deployment/NAME, or leave it out",
        )
        for key, name in (("--service", "services"), ("--route", "routes"))
        if values.get(name)
    ]
