# SPDX-License-Identifier: Apache-2.0
"""Alert rules speak of metrics that the daemon really exposes."""

import re

from controller.engine.meters import Meters
from tests.manifests.rendered import Json, kustomized, of_kind

NAME = re.compile(r"\bswitchgear_[a-z_]+")


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


def test_every_alert_says_what_to_do() -> None:
    for rule in _rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].rstrip().endswith(".")
