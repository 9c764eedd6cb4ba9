# SPDX-License-Identifier: Apache-2.0
"""`backtest` on a whole cluster and a real Prometheus whose history was written beforehand."""

import contextlib
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cli.practice import quiet_world
from tests.cli.room import Room, room
from tests.support.prometheus import Past, prometheus
from tests.support.realtime import ROOT

pytestmark = pytest.mark.slow

POLICY: Final = {
    "switchgear.dev/policy": "fast",
    "switchgear.dev/steps": "10@2m,50@2m",
    "switchgear.dev/bake": "2m",
    "switchgear.dev/deadline": "10m",
}
HOURS: Final = 6
DAYS: Final = "0.1"
"""The judge is told of more than is replayed, as it is in life."""


@contextlib.contextmanager
def practice(folder: Path, past: Past | None, **notes: str) -> Iterator[tuple[Room, str]]:
    """A cluster with a target, and a Prometheus that knows the target's past."""
    text = past.text() if past else ""
    world = quiet_world(seconds=1.0, rate=10.0, annotations={**POLICY, **notes})
    with prometheus(folder / "store", history=text) as store, room(world, folder) as found:
        yield found, store.url


def type_(where: tuple[Room, str], *words: str) -> Any:
    place, url = where
    return place.type("backtest", "shop/checkout", "--prometheus", url, "--days", DAYS, *words)


def told(where: tuple[Room, str], *words: str) -> dict[str, Any]:
    result = type_(where, *words, "-o", "json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_calm_past_is_answered_in_json_and_on_a_page(tmp_path: Path) -> None:
    past = Past(seconds=HOURS * 3600, until=time.time())
    with practice(tmp_path, past) as where:
        page = tmp_path / "page.html"
        report = told(where, "--html", str(page))
        assert report["pods"] == 6
        assert report["scrape_seconds"] == 15
        assert report["windows"] >= 8
        assert report["calibrated"] == report["windows"]
        assert report["requests_per_second"] == pytest.approx(30, rel=0.1)
        assert report["false_rollbacks"]["runs"] == 6 * report["windows"]
        assert report["false_rollbacks"]["rolled_back"] == 0
        assert report["promotion"]["promoted"] == report["promotion"]["runs"]
        assert report["promotion"]["seconds"]["median"] == pytest.approx(400, rel=0.15)
        found = {row["regression"]: row for row in report["detection"]}
        assert found["50 % errors"]["found"] == report["windows"]
        assert found["50 % errors"]["seconds"]["worst"] <= 45
        assert found["50 % slow"]["found"] == report["windows"]
        assert report["slow_beyond_seconds"] == [0.5]
        assert page.read_text().count("<svg") == 2


SPAN: Final = r"[\d.]+ (?:s|min)"
LINE: Final = re.compile(
    rf"^  (?P<name>\S+ (?:% )?\S+) +(?P<bar>#+) +(?P<median>{SPAN}), at worst (?P<worst>{SPAN}); "
    r"(?P<bad>\d+) bad answers, at worst (?P<most>\d+)(?:; (?P<missed>\d+) of 28 .*)?$",
    re.MULTILINE,
)
"""A regression that is found in some window, as it stands in the terminal."""


def in_seconds(told: str) -> float:
    figure, unit = told.split()
    return float(figure) * (60 if unit == "min" else 1)


def test_a_week_is_gone_through_at_28_moments_and_drawn_as_it_is_told(tmp_path: Path) -> None:
    """As it is typed: without --days. A scrape in 30 s, 24 requests/s, 0.2 % of them errors."""
    past = Past(seconds=7.2 * 86400, until=time.time(), pods=3, rate=8.0, gap=30.0)
    page = tmp_path / "page.html"
    with practice(tmp_path, past) as (place, url):
        result = place.type(
            "backtest", "shop/checkout", "--prometheus", url, "--html", str(page)
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    text, html = result.stdout, page.read_text()
    (basis,) = (line for line in text.splitlines() if " windows from " in line)
    assert basis.startswith("  28 windows from "), basis
    begin, end = (datetime.fromisoformat(one) for one in re.findall(r"20\d\d-\S+Z", basis))
    assert abs(end - begin - timedelta(days=7)) < timedelta(minutes=20)
    assert re.search(r"; 24(\.\d)? requests/s with 0\.2\d? % errors; ", basis), basis
    assert "stable's past was known to the judge in 28 of them" in text
    assert re.search(r"^  [01] of 84 runs in which pods of the running version", text, re.MULTILINE)
    rows = {found["name"]: found for found in LINE.finditer(text)}
    assert rows.keys() >= {"50 % errors", "50 % slow"}, text
    medians = {name: in_seconds(found["median"]) for name, found in rows.items()}
    # Half of a tenth of the requests, from the first weight on to the first scrape or the second.
    collapse = rows["50 % errors"]
    assert 30 <= medians["50 % errors"] <= in_seconds(collapse["worst"]) <= 60
    assert int(collapse["bad"]) == pytest.approx(24 / 10 / 2 * medians["50 % errors"], rel=0.3)
    # What is told is rounded, and bars are not. They are logarithmic: in the terminal from 3
    # characters to 36, on the page to the worst.
    shortest, longest = min(medians.values()), max(medians.values())
    most = max(in_seconds(found["worst"]) for found in rows.values())
    for name, found in rows.items():
        share = math.log(medians[name] / shortest) / math.log(longest / shortest)
        assert len(found["bar"]) == pytest.approx(3 + 33 * share, abs=1), text
        label = re.search(rf'<text x="102.0" y="(\d+).0"[^>]*>{re.escape(name)}</text>', html)
        assert label, name
        bar = re.search(rf'<rect x="110" y="{int(label[1]) - 12}" width="([\d.]+)"', html)
        assert bar, name
        assert float(bar[1]) == pytest.approx(460 * math.log(medians[name], most), abs=1)
        assert f">{found['median']}, worst {found['worst']}</text>" in html
        caught = 28 - int(found["missed"] or 0)
        cells = (name, 28, caught, found["median"], found["worst"], found["bad"], found["most"])
        assert "".join(f"<td>{cell}</td>" for cell in cells) in html
    # The evidence against the healthy run that came nearest to a rollback: a point for each scrape.
    (line,) = re.findall(r'<polyline points="([^"]+)"', html)
    assert len(line.split()) >= 3 * 120 / 30
    assert ">rollback, 100 to 1</text>" in html


def test_an_incident_of_one_pod_shows_as_a_false_rollback_with_its_time(tmp_path: Path) -> None:
    """It fails half of its answers from some moment on, in the middle of some window's run."""
    end = time.time()

    def bad(pod: int, at: float) -> float:
        return 0.5 if pod == 2 and at > end - 1800 else 0.002

    steps = {"switchgear.dev/steps": "10@5m,50@5m", "switchgear.dev/bake": "5m"}
    with practice(tmp_path, Past(seconds=HOURS * 3600, until=end, bad=bad), **steps) as where:
        report = told(where)
        found = report["false_rollbacks"]
        assert 1 <= found["rolled_back"] < found["runs"]
        assert found["hours_utc"]
        assert any("x2xd4" in one for case in found["examples"] for one in case["pods"])


def test_checks_and_what_runs_out_are_played_and_named_where_they_decide(tmp_path: Path) -> None:
    """One pod leaks open files for a while, and later another one fails its orders."""
    end = time.time()

    def leaking(pod: int, at: float) -> float:
        return 990 if pod == 4 and end - 4900 < at < end - 4000 else 50 + pod

    def failing(pod: int, at: float) -> float:
        return 0.5 if pod == 2 and at > end - 1800 else 0.01

    past = Past(
        seconds=HOURS * 3600,
        until=end,
        gauges={
            "orders_failing": failing,
            "process_open_fds": leaking,
            "process_max_fds": lambda _pod, _at: 1024,
        },
    )
    gateway = 'sum(rate(traefik_service_requests_total{code="500"}[1m])) < 9'
    checks = {
        "switchgear.dev/check.orders": "max(orders_failing) < 0.05",
        "switchgear.dev/check.gateway": gateway,
        # Several pods on both sides, which no store can match.
        "switchgear.dev/check.many": "max(process_open_fds / on (namespace) process_max_fds) < 2",
    }
    steps = {"switchgear.dev/steps": "5@5m,50@5m", "switchgear.dev/bake": "5m"}
    with practice(tmp_path, past, **checks, **steps) as where:
        page = tmp_path / "page.html"
        report = told(where, "--html", str(page))
        found = report["false_rollbacks"]
        assert set(found["decided_by"]) == {"check orders", "saturation"}
        pods = {"check orders": "x2xd4", "saturation": "x2xg4"}
        for one in found["examples"]:
            assert any(pods[one["check"]] in pod for pod in one["pods"])
        windows = {one["name"]: one["windows"] for one in report["measured"]}
        assert windows == {
            "check gateway": 0,
            "check many": 0,
            "check orders": report["windows"],
            "saturation: open files": report["windows"],
        }
        # What cannot be asked is no check of the runs, which do not wait for it.
        assert report["promotion"]["waited_for"] == {}
        for told_ in (type_(where).stdout, page.read_text()):
            assert "decided by" in told_
            assert "check orders: canary 0.5, stable 0.01" in told_
            assert "saturation: open files: canary 0.9668, stable 0.05" in told_
            assert "found duplicate series for the match group" in told_
            assert "a gateway counts traefik_service_requests_total" in told_


def test_a_short_past_says_what_it_lacks_and_answers_the_rest(tmp_path: Path) -> None:
    check = {"switchgear.dev/check.orders": "sum(rate(orders_failed_total[1m])) < 0.05"}
    with practice(tmp_path, Past(seconds=2400, until=time.time()), **check) as where:
        report = told(where)
        windows, promotion = report["windows"], report["promotion"]
        (none,) = (one for one in report["measured"] if one["name"] == "check orders")
        assert none["windows"] == windows
        assert none["without_value"] == [{"windows": windows, "why": "no value"}]
        assert none["left_out"] == []
        # As in a daemon: nothing passes for want of a value.
        assert promotion["inconclusive"] == promotion["runs"]
        assert promotion["waited_for"] == {"check orders": promotion["runs"]}
        words = type_(where).stdout
        assert f"nothing is promoted in {windows} of {windows} windows" in words
        assert "waiting for check orders" in words
        assert any("of history: the judge is told nothing" in note for note in report["notes"])
        assert report["detection"]
        assert report["false_rollbacks"]["at_most_share"] > 0.01


def test_no_history_no_pods_and_no_prometheus_are_told_plainly(tmp_path: Path) -> None:
    with practice(tmp_path, None) as where:
        nothing = type_(where)
        assert nothing.exit_code == 1
        assert "Prometheus has no series of pods of shop/checkout" in nothing.stderr
        place, _ = where
        dead = place.type("backtest", "shop/checkout", "--prometheus", "http://127.0.0.1:9")
        assert dead.exit_code == 3
        assert "metrics store cannot be reached" in dead.stderr
        unasked = place.type("backtest", "shop/checkout")
        assert unasked.exit_code == 2
        assert "--prometheus" in unasked.stderr
        missing = place.type("backtest", "shop/nobody", "--prometheus", "http://127.0.0.1:9")
        assert missing.exit_code == 1
        assert "there is no Deployment shop/nobody" in missing.stderr


def test_without_the_extra_it_says_how_to_install_it() -> None:
    """As in an environment that has no such library: nothing of ours is replaced."""
    program = (
        "import sys; sys.modules['prometheus_api_client'] = None\n"
        "from controller.cli import main\n"
        "main(['backtest', 'shop/checkout', '--prometheus', 'http://127.0.0.1:9'])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "pip install 'switchgear[backtest]'" in found.stderr
    assert "Traceback" not in found.stderr
