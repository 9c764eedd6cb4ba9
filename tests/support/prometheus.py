# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus as a process, with a history that is written before it starts."""

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from controller.demo import binaries
from tests.support.realtime import free_port

START_SECONDS: Final = 20.0
NOTHING: Final = "scrape_configs: []\n"


@dataclass(slots=True, kw_only=True)
class Store:
    """One Prometheus with its folder; it may be stopped and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    binaries.find_prometheus(),
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    "--storage.tsdb.retention.time=60d",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_SECONDS
        with httpx.Client(trust_env=False, timeout=1.0) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if http.get(f"{self.url}/-/ready").status_code == 200:
                        return
                assert self.process.poll() is None, self.log()
                assert time.monotonic() < end, self.log()
                # A look costs a connection; there is nothing to wait on.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.05)

    def stop(self) -> None:
        """End it; what it has is on disk."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        return (self.folder / "prometheus.log").read_text()[-2000:]


@contextlib.contextmanager
def prometheus(folder: Path, config: str = NOTHING, history: str = "") -> Iterator[Store]:
    """A Prometheus for as long as the block lasts; `history` in the OpenMetrics text format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(config)
    if history:
        backfill(folder, history)
    store = Store(folder=folder)
    try:
        store.start()
        yield store
    finally:
        store.stop()


def backfill(folder: Path, history: str) -> None:
    """Write blocks, as an operator does who moves a history to another Prometheus."""
    text = folder / "history.txt"
    text.write_text(history)
    promtool = binaries.find_prometheus().with_name("promtool")
    # The whole text is read again for each block, which are of two hours else.
    long = ["--max-block-duration=744h"]
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", *long, "openmetrics", "-q", text, folder / "data"],
        check=True,
        capture_output=True,
    )


Bad = Callable[[int, float], float]
"""Share of failed answers of a pod (by number) at a time in seconds since the epoch."""


Gauge = Callable[[int, float], float | None]
"""The same of anything else; None: it has no sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the pods of a Deployment have counted.

    Attributes:
        seconds: For how long.
        pods: How many.
        rate: Requests per second of each.
        gap: Seconds between two scrapes.
        bad: Which part of them fails.
        gauges: Other metrics, by name.
        bounds: Of the histogram, each with the share of answers within.
        until: Its end, in seconds since the epoch.
    """

    seconds: float
    until: float
    pods: int = 6
    rate: float = 5.0
    gap: float = 15.0
    bad: Bad = lambda _pod, _at: 0.002
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    bounds: tuple[tuple[float, float], ...] = ((0.1, 0.9), (0.5, 0.995), (2.5, 1.0))

    def text(self, seed: int = 1) -> str:
        """In OpenMetrics."""
        source = random.Random(seed)
        counts, buckets = [], []
        gauged: dict[str, list[str]] = {name: [] for name in self.gauges}
        for pod in range(self.pods):
            labels = f'namespace="shop",pod="checkout-5d9c7b6f48-x2x{"bcdfghjklmnpqrstvwxz"[pod]}4"'
            sums = {"200": 0, "500": 0}
            cells = [0] * len(self.bounds)
            at = self.until - self.seconds + self.gap * pod / self.pods
            while at < self.until:
                requests = max(round(source.gauss(1, (self.rate * self.gap) ** -0.5)
                                     * self.rate * self.gap), 0)  # fmt: skip
                bad = self.bad(pod, at)
                spread = (requests * bad * (1 - bad)) ** 0.5
                # Few errors are drawn one by one, many by their mean and spread.
                failed = (
                    sum(source.random() < bad for _ in range(requests))
                    if requests < 200
                    else round(source.gauss(requests * bad, spread))
                )
                failed = min(max(failed, 0), requests)
                sums["200"] += requests - failed
                sums["500"] += failed
                counts += [
                    f'http_requests_total{{{labels},code="{code}"}} {value} {at:.3f}'
                    for code, value in sums.items()
                ]
                for place, (bound, share) in enumerate(self.bounds):
                    cells[place] += round(requests * share)
                    buckets.append(
                        f'http_request_duration_seconds_bucket{{{labels},le="{bound}"}} '
                        f"{cells[place]} {at:.3f}"
                    )
                buckets.append(
                    f'http_request_duration_seconds_bucket{{{labels},le="+Inf"}} '
                    f"{sum(sums.values())} {at:.3f}"
                )
                for name, lines in gauged.items():
                    value = self.gauges[name](pod, at)
                    if value is not None:
                        lines.append(f"{name}{{{labels}}} {value} {at:.3f}")
                at += self.gap
        head = ["# TYPE http_requests counter", *counts]
        head += ["# TYPE http_request_duration_seconds gauge", *buckets]
        for name, lines in gauged.items():
            head += [f"# TYPE {name} gauge", *lines]
        return "\n".join([*head, "# EOF", ""])
