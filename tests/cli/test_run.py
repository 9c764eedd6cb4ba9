# SPDX-License-Identifier: Apache-2.0
"""`run` refuses what it cannot work with, all of it at once, before anything is started."""

from pathlib import Path

import pytest

from controller import settings
from controller.settings import Settings
from tests.cli.room import typed

PROMETHEUS = "--prometheus=http://prometheus.monitoring:9090"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """By flag and by variable, each named as it was given; exit 2."""
    result = typed(
        "run",
        "--listen=0.0.0.0:8340",
        "--namespace=Shop/a",
        "--settle-seconds=soon",
        "--drain-seconds=nan",
        "--cluster-cap=120",
        "--provider=magic",
        f"--kubeconfig={tmp_path}/none",
        SWITCHGEAR_LOG_LEVEL="loud",
        SWITCHGEAR_RESYNC_SECONDS="0",
        SWITCHGEAR_PROMETHEUS="prometheus:9090",
        SWITCHGEAR_LISTENS="127.0.0.1:1",
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    named = [line.removeprefix("switchgear run: ").split(":")[0] for line in lines]
    assert sorted(named) == [
        "--cluster-cap",
        "--drain-seconds",
        "--kubeconfig",
        "--listen",
        "--namespace",
        "--provider",
        "--settle-seconds",
        "SWITCHGEAR_LISTENS",
        "SWITCHGEAR_LOG_LEVEL",
        "SWITCHGEAR_PROMETHEUS",
        "SWITCHGEAR_RESYNC_SECONDS",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--listen=127.0.0.1", "HOST:PORT"),
        ("--listen=127.0.0.1:99999", "HOST:PORT"),
        ("--listen=:8340", "HOST:PORT"),
        ("--prometheus=http://[::1", "address such as"),
        ("--prometheus=http://a:b", "address such as"),
        ("--prometheus=ftp://a", "address such as"),
        ("--roll-seconds=-1", "between 0 and"),
        ("--controller-namespace=a.b", "namespace"),
        ("--namespace=Shop", "namespace"),
        ("--cluster-cap=much", "number"),
    ],
)
def test_a_bad_value_says_what_it_must_be(given: str, said: str) -> None:
    """One line, with the value that was given."""
    words = (given,) if "--prometheus" in given else (given, PROMETHEUS)
    result = typed("run", *words)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    flag, _, value = given.partition("=")
    assert line.startswith(f"switchgear run: {flag}: {value!r}: must be ")
    assert said in line


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.1.2.3", "switchgear.example"])
def test_beyond_loopback_it_asks_for_a_token(host: str, tmp_path: Path) -> None:
    """Without a file for one it does not start; while the file has none, the doors stay shut."""
    flags = {"listen": f"{host}:8340", "prometheus_url": "http://p"}
    found = settings.load(flags, {})
    assert isinstance(found, tuple)
    assert [problem.code for problem in found] == ["OpenDoor"]
    named = {**flags, "token_file": str(tmp_path / "missing")}
    assert isinstance(settings.load(named, {}), Settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_on_loopback_it_does_not(host: str) -> None:
    """Whoever is on the machine may come in."""
    found = settings.load({"listen": f"{host}:8340", "prometheus_url": "http://p"}, {})
    assert isinstance(found, Settings)
    assert found.listen == (host.strip("[]"), 8340)


def test_a_flag_wins_over_its_variable() -> None:
    """And a list comes from either: repeated flags, or commas."""
    environment = {
        "SWITCHGEAR_NAMESPACE": "shop, pay",
        "SWITCHGEAR_PROMETHEUS": "http://a:1/",
        "SWITCHGEAR_CLUSTER_CAP": "12.5%",
        "SWITCHGEAR_DRAIN_SECONDS": "7s",
        "SWITCHGEAR_TOKEN_FILE": "",
        "SWITCHGEAR_SERVER": "http://elsewhere",
        "HOME": "/nowhere",
    }
    found = settings.load({"prometheus_url": "http://b:2", "namespaces": ()}, environment)
    assert isinstance(found, Settings)
    assert found.namespaces == ("shop", "pay")
    assert found.prometheus_url == "http://b:2"
    assert found.cluster_cap_bp == 1250
    assert found.drain_seconds == 7.0
    assert found.token_file is None
    assert found.providers == ("traefik", "application")


def test_help_lists_every_setting_with_its_variable() -> None:
    """What is not in the help is not there."""
    result = typed("run", "--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for setting in settings.TABLE:
        assert setting.flag in text
        assert f"[env: {setting.variable}]" in text, setting.name
        assert setting.help.split(".")[0].split(",")[0] in text, setting.name
