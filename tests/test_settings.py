# SPDX-License-Identifier: Apache-2.0
"""The daemon's settings: where they come from, and every problem with them at once."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from controller import readers, settings
from controller.cli import main
from controller.core.policy.model import Problem
from controller.settings import TABLE, Settings

NEEDED = {"prometheus_url": "http://127.0.0.1:9090"}


def good(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    found = settings.load({**NEEDED, **flags}, environ or {})
    assert isinstance(found, Settings), found
    return found


def bad(environ: dict[str, str] | None = None, **flags: Any) -> tuple[Problem, ...]:
    found = settings.load({**NEEDED, **flags}, environ or {})
    assert not isinstance(found, Settings)
    return found


def test_one_address_is_enough() -> None:
    found = good()
    assert found.listen == ("127.0.0.1", 8340)
    assert found.controller_namespace == "switchgear"
    assert found.namespaces == ()
    assert found.token_file is None


def test_a_flag_wins_over_the_environment() -> None:
    environ = {"SWITCHGEAR_LOG_LEVEL": "debug", "SWITCHGEAR_NAMESPACE": "shop, pay"}
    assert good(environ).log_level == "debug"
    assert good(environ).namespaces == ("shop", "pay")
    assert good(environ, log_level="error", namespaces=("web",)).namespaces == ("web",)
    assert good(environ, log_level="error").log_level == "error"


def test_caps_are_percent_outside_and_basis_points_inside() -> None:
    found = good(cluster_cap_bp="12.5%", namespace_caps_bp=("shop=5", "pay=0"))
    assert found.cluster_cap_bp == 1250
    assert dict(found.namespace_caps_bp) == {"shop": 500, "pay": 0}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prometheus_url", "prometheus:9090"),
        ("prometheus_url", "http://"),
        ("prometheus_url", "http://[::1"),
        ("prometheus_url", "http://x:port"),
        ("listen", "8340"),
        ("listen", "127.0.0.1:99999"),
        ("cluster_cap_bp", "101"),
        ("cluster_cap_bp", "nan"),
        ("settle_seconds", "-1"),
        ("settle_seconds", "soon"),
        ("drain_seconds", "inf"),
        ("providers", "nobody"),
        ("controller_namespace", "Not A Name"),
        ("log_level", "loud"),
    ],
)
def test_a_bad_value_names_its_flag_and_what_it_must_be(name: str, text: str) -> None:
    row = next(row for row in TABLE if row.name == name)
    told: dict[str, Any] = {name: (text,) if row.many else text}
    (problem,) = bad(**told)
    assert problem.key == row.flag
    assert repr(text) in problem.message
    assert "must be" in problem.message


@pytest.mark.parametrize("text", ["shop", "shop=", "=5", "shop=200"])
def test_a_bad_cap_of_a_namespace_is_told(text: str) -> None:
    (problem,) = bad(namespace_caps_bp=(text,))
    assert problem.key == "--namespace-cap"


def test_all_problems_are_told_at_once() -> None:
    environ = {"SWITCHGEAR_LISTEN": "nowhere", "SWITCHGEAR_LOGLEVEL": "info"}
    found = bad(environ, prometheus_url=None, cluster_cap_bp="much")
    assert {(problem.key, problem.code) for problem in found} == {
        ("--cluster-cap", "InvalidSetting"),
        ("--prometheus", "MissingSetting"),
        ("SWITCHGEAR_LISTEN", "InvalidSetting"),
        ("SWITCHGEAR_LOGLEVEL", "UnknownSetting"),
    }


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[::]:8340", ("::", 8340)),
        ("[::1]:0", ("::1", 0)),
        # `$(POD_IP):8340`, as a kubelet puts the address in.
        ("fd00:10::7:8340", ("fd00:10::7", 8340)),
    ],
)
def test_an_address_of_ipv6(text: str, address: tuple[str, int], tmp_path: Path) -> None:
    found = good(listen=text, advertise=text, token_file=str(tmp_path / "token"))
    assert found.listen == found.advertise == address


def test_services_of_the_namespace_are_no_settings() -> None:
    """Kubernetes tells a sidecar of every Service beside it; `switchgear-x` begins as ours do."""
    ports = ("PORT", "PORT_80_TCP", "PORT_80_TCP_PROTO", "PORT_80_TCP_PORT", "PORT_80_TCP_ADDR")
    of_each = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP_METRICS", *ports)
    services = ("SWITCHGEAR", "SWITCHGEAR_X", "SWITCHGEAR_X_PORT_1")
    good({f"{service}_{part}": "x" for service in services for part in of_each})
    settings = {row.variable for row in TABLE}
    begun = {"_".join(name.split("_")[:end]) for name in settings for end in range(1, 9)}
    hosts = {f"{name}_SERVICE_HOST" for name in begun}
    assert not readers.linked(hosts | settings) & settings, "none of ours is taken for one"
    (problem,) = bad({"SWITCHGEAR_X_PORT": "8340", "SWITCHGEAR_SERVICE_HOST": "10.0.0.1"})
    assert (problem.key, problem.code) == ("SWITCHGEAR_X_PORT", "UnknownSetting")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.0.0.7", "switchgear.example"])
def test_beyond_this_machine_there_must_be_a_token(host: str, tmp_path: Path) -> None:
    (problem,) = bad(listen=f"{host}:8340")
    assert problem.code == "OpenDoor"
    assert "--token-file" in problem.hint
    token = tmp_path / "token"
    (nowhere,) = bad(listen=f"{host}:8340", token_file=str(tmp_path / "typo" / "token"))
    assert nowhere.code == "NoToken"
    # A Secret that is mounted before it exists: the doors stay shut until it comes.
    assert good(listen=f"{host}:8340", token_file=str(token)).token_file == token
    token.write_text("\n")
    (empty,) = bad(listen=f"{host}:8340", token_file=str(token))
    assert empty.code == "NoToken"
    token.write_text("a long random line\n")
    assert good(listen=f"{host}:8340", token_file=str(token)).token_file == token


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_on_this_machine_none_is_needed(host: str) -> None:
    assert good(listen=f"{host}:0").listen[1] == 0


def test_variables_of_other_commands_are_no_mistake() -> None:
    good({"SWITCHGEAR_SERVER": "http://x", "SWITCHGEAR_PROMETHEUS_BIN": "/x", "PATH": "/bin"})


def test_help_has_every_setting_once() -> None:
    shown = CliRunner().invoke(main, ["run", "--help"], terminal_width=200).output
    for row in TABLE:
        assert shown.count(f"{row.flag} ") == 1 or row.flag == "--token-file", row.flag
        assert f"[env: {row.variable}]" in " ".join(shown.split())


def test_the_daemon_leaves_with_2_and_tells_every_problem() -> None:
    done = CliRunner().invoke(main, ["run", "--listen", "x", "--settle-seconds", "y"], env={})
    assert done.exit_code == 2
    assert done.stderr.count("switchgear run: ") == 3


@pytest.mark.parametrize("name", ["k" * 5000, "a\0b", "nowhere"])
def test_a_kubeconfig_that_no_file_may_be_is_none(name: str) -> None:
    (problem,) = bad(kubeconfig=name)
    assert problem.code == "NoKubeconfig"


@given(
    st.dictionaries(st.sampled_from([row.name for row in TABLE if not row.many]), st.text()),
    st.dictionaries(st.sampled_from([row.variable for row in TABLE]), st.text()),
)
def test_no_text_makes_it_raise(flags: dict[str, str], environ: dict[str, str]) -> None:
    found = settings.load(flags, environ)
    assert isinstance(found, Settings) or found


def test_a_sidecar_is_told_its_target_and_its_pod() -> None:
    environ = {
        "SWITCHGEAR_TARGET": "deployment/checkout",
        "SWITCHGEAR_NAMESPACE": "shop",
        "SWITCHGEAR_POD_HASH": "abc",
        "SWITCHGEAR_ROUTE": "HTTPRoute/web,GRPCRoute/api",
        "SWITCHGEAR_POD_TRACK": "",
    }
    found = good(environ)
    assert (found.target, found.namespaces, found.pod_track) == ("checkout", ("shop",), "")
    assert found.routes == (("HTTPRoute", "web"), ("GRPCRoute", "api"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("target", "statefulset/db", "'statefulset' cannot be a target"),
        ("target", "checkout", "deployment/NAME"),
        ("target", "deployment/" + "a" * 201, "200 characters"),
        ("routes", "TCPRoute/x", "HTTPRoute/NAME"),
        ("lease_seconds", "2", "between 3 and 60"),
        ("lease_seconds", "10.5", "whole number"),
        ("leader_election", "yes", "on or off"),
    ],
)
def test_what_a_sidecar_or_a_replica_cannot_be_told(name: str, text: str, words: str) -> None:
    given: Any = (text,) if name == "routes" else text
    assert any(words in problem.message for problem in bad(**{name: given}))


def test_a_target_without_its_pod_or_namespace_is_refused() -> None:
    """All of it at once, each with what to do."""
    codes = {problem.code for problem in bad(target="deployment/checkout")}
    assert codes == {"NoNamespace", "UnknownPod"}
    assert {problem.code for problem in bad(services=("checkout",))} == {"NoTarget"}
