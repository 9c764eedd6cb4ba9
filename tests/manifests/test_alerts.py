# SPDX-License-Identifier: Apache-2.0
"""Alert rules speak of metrics that the daemon really exposes."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.demo import binaries
from controller.engine.meters import ALERTED, Meters
from tests.manifests.rendered import Json, kustomized, of_kind

NAME = re.compile(r"\bswitchgear_[a-z_]+")
REASONS = re.compile(r'reason=~?"([^"]+)"')


def _rules() -> list[Json]:
    (found,) = of_kind(kustomized("monitoring"), "PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def _exposed() -> set[str]:
    meters = Meters()
    meters.ended("promoted")
    meters.notice("RolledUngated")
    text = meters.text().decode()
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}


def test_every_metric_exists() -> None:
    exposed = _exposed()
    for rule in _rules():
        for name in NAME.findall(rule["expr"]):
            assert name in exposed, (rule["alert"], name)


def test_the_first_notice_of_a_process_is_an_increase() -> None:
    """Reasons that an alert names are exposed as 0 before anything happened."""
    text = Meters().text().decode()
    named = {
        reason
        for rule in _rules()
        for reasons in REASONS.findall(rule["expr"])
        for reason in reasons.split("|")
    }
    assert named == set(ALERTED)
    for reason in named:
        assert f'switchgear_notices_total{{reason="{reason}"}} 0.0' in text


def test_every_alert_says_what_to_do() -> None:
    for rule in _rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].rstrip().endswith(".")


# What makes each alert fire: series over minutes, and when it must have fired. A series of its own
# keeps SwitchgearDown quiet, as the daemon does.
FIRING: dict[str, tuple[dict[str, str], str]] = {
    "SwitchgearDown": ({"other": "1x20"}, "5m"),
    "SwitchgearLeaderless": ({"switchgear_leader": "0x20"}, "5m"),
    "SwitchgearPromiseBroken": ({"switchgear_promises_broken_total": "0 0 0 1x17"}, "5m"),
    "SwitchgearJournalNotWritable": ({"switchgear_journal_failures_total": "0+1x20"}, "8m"),
    "SwitchgearMetricsSilent": ({"switchgear_metrics_failures_total": "0+1x20"}, "12m"),
    "SwitchgearRollbackSlow": (
        {
            'switchgear_rollback_write_seconds_bucket{le="1"}': "0x20",
            'switchgear_rollback_write_seconds_bucket{le="2.5"}': "0 0 3x18",
            'switchgear_rollback_write_seconds_bucket{le="+Inf"}': "0 0 3x18",
        },
        "5m",
    ),
    "SwitchgearBreakerTripped": ({"switchgear_breaker_trips_total": "0 0 1x18"}, "5m"),
    "SwitchgearKilled": ({"switchgear_kills_total": "0 0 1x18"}, "5m"),
    "SwitchgearKillEngaged": ({"switchgear_kill_latches": "0 0 1x98"}, "90m"),
    "SwitchgearRunStuck": ({"switchgear_phase_seconds": "0+60x60"}, "40m"),
    "SwitchgearRolledUngated": (
        {'switchgear_notices_total{reason="RolledUngated"}': "0 0 1x18"},
        "5m",
    ),
    "SwitchgearNeedsAPerson": (
        {
            'switchgear_notices_total{reason="EffectFailing"}': "0x20",
            'switchgear_notices_total{reason="RunDocumentUnusable"}': "0 0 1x18",
        },
        "5m",
    ),
}
QUIET = {
    "switchgear_runs_active": "2x20",
    'switchgear_leader{pod="a"}': "0x20",
    'switchgear_leader{pod="b"}': "1x20",
    "switchgear_promises_broken_total": "0x20",
    "switchgear_journal_failures_total": "3x20",
    "switchgear_metrics_failures_total": "5 5 6x18",
    'switchgear_rollback_write_seconds_bucket{le="1"}': "0+1x20",
    'switchgear_rollback_write_seconds_bucket{le="+Inf"}': "0+1x20",
    "switchgear_breaker_trips_total": "4x20",
    "switchgear_kills_total": "1x20",
    "switchgear_kill_latches": "1x20",
    "switchgear_phase_seconds": "0+90x20",
    'switchgear_notices_total{reason="Promoted"}': "0+1x20",
    'switchgear_notices_total{reason="OtherWriter"}': "2x20",
}


def _case(name: str, series: dict[str, str], at: str, *, fires: bool) -> Json:
    (rule,) = [rule for rule in _rules() if rule["alert"] == name]
    expected = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
    return {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [
            {"alertname": name, "eval_time": at, "exp_alerts": [expected] if fires else []}
        ],
    }


def test_every_alert_has_its_case() -> None:
    assert {rule["alert"] for rule in _rules()} == set(FIRING)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    """Judged by promtool, which comes with Prometheus."""
    (found,) = of_kind(kustomized("monitoring"), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": found["spec"]["groups"]}))
    alive = {"switchgear_runs_active": "1x100"}
    cases = [
        _case(name, series if name == "SwitchgearDown" else {**alive, **series}, at, fires=True)
        for name, (series, at) in FIRING.items()
    ]
    cases += [_case(name, QUIET, "15m", fires=False) for name in FIRING]
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases})
    )
    promtool = binaries.find_prometheus().with_name("promtool")
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]):
        done = subprocess.run(
            [str(promtool), *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
