# SPDX-License-Identifier: Apache-2.0
"""What stable's past tells the judge before a run: phi, the cap, and where answers usually fall.

Fixed when the run begins and written into its document: a setting tuned on the data that it judges
would void the promise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.core.evidence import dispersion, past
from controller.core.evidence.dispersion import LEAST_ERRORS, Count
from controller.core.evidence.latency import LEAST_SEEN
from controller.core.evidence.measures import Gauge
from controller.core.evidence.past import Past
from controller.core.evidence.settings import Settings

DEFAULT_PHI = 3.0
DEFAULT_CAP = 3
KNOWN_CAP = 2

MOST_FAR = 60.0
"""Phi of answers far out counts up to this: a pod that hangs for half a minute in two hours makes
it some hundreds, which sees no time-outs any more, and the cap alone is enough for what is so rare.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The measured past, or the cautious default.

    Attributes:
        phi: How much errors cluster, at least 1.
        latency_phi: The same of slow answers.
        far_phi: The same of those slower than `far_bound`, where it is larger.
        far_bound: The least bucket bound in seconds for which it is; infinite: there is none.
        cap_scrapes: k, the least number of scrapes to a rollback that goes with it.
        known: Whether phi was measured.
        volume: Requests per second then; 0: unknown.
        rate: Share of failed answers then; 0: unknown.
        usual_rate: The same, also where so few failed that it is not known how they cluster; None:
            too few answers.
        buckets: Stable's histogram: (upper bound in seconds, requests not slower).
        gauges: What can run out, and how far stable used it.
        words: What it rests on, for people.
        doubt: Why a healthy version may be rolled back all the same, for people; empty: no replay
            has said so.
    """

    phi: float = DEFAULT_PHI
    latency_phi: float = DEFAULT_PHI
    far_phi: float = 1.0
    far_bound: float = math.inf
    cap_scrapes: int = DEFAULT_CAP
    known: bool = False
    volume: float = 0.0
    rate: float = 0.0
    usual_rate: float | None = None
    buckets: tuple[tuple[float, int], ...] = ()
    gauges: tuple[Gauge, ...] = ()
    words: str = "nothing is known of stable's past; assuming phi = 3 and k = 3"
    doubt: str = ""

    def applied(self, settings: Settings) -> Settings:
        """The settings of a run that starts with this."""
        return replace(
            settings,
            dispersion=self.phi,
            latency_dispersion=self.latency_phi,
            far_dispersion=self.far_phi,
            far_bound=self.far_bound,
            cap_scrapes=self.cap_scrapes,
            dispersion_known=self.known,
            volume=self.volume,
            past_rate=self.rate,
            usual_rate=self.usual_rate,
            past=self.buckets,
            gauges=self.gauges,
            past_doubt=self.doubt,
        )

    def to_json(self) -> dict[str, Any]:
        """Only whole numbers, strings, lists and objects."""
        return {
            "phi": repr(self.phi),
            "latencyPhi": repr(self.latency_phi),
            "farPhi": repr(self.far_phi),
            "farBound": repr(self.far_bound),
            "capScrapes": self.cap_scrapes,
            "known": int(self.known),
            "volume": repr(self.volume),
            "rate": repr(self.rate),
            "usualRate": repr(self.usual_rate),
            "buckets": [[repr(bound), count] for bound, count in self.buckets],
            "gauges": [_gauge(gauge) for gauge in self.gauges],
            "words": self.words,
            "doubt": self.doubt,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Calibration":
        """Read back what `to_json` wrote.

        Raises:
            ValueError: It is not of that form.
        """
        try:
            return cls(
                phi=float(told["phi"]),
                latency_phi=float(told["latencyPhi"]),
                far_phi=float(told.get("farPhi", 1.0)),
                far_bound=float(told.get("farBound", math.inf)),
                cap_scrapes=int(told["capScrapes"]),
                known=bool(told["known"]),
                volume=float(told["volume"]),
                rate=float(told["rate"]),
                usual_rate=_read_rate(told.get("usualRate", "None")),
                buckets=tuple((float(bound), int(count)) for bound, count in told["buckets"]),
                gauges=tuple(_read_gauge(gauge) for gauge in told.get("gauges", ())),
                words=str(told["words"]),
                doubt=str(told.get("doubt", "")),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"calibration is damaged: {error!r}") from error


def _read_rate(told: str) -> float | None:
    return None if told == "None" else float(told)


def _gauge(gauge: Gauge) -> list[str]:
    figures = (gauge.usual, gauge.floor, gauge.patience_seconds)
    return [gauge.name, *(repr(figure) for figure in figures), str(int(gauge.ends))]


def _read_gauge(told: Sequence[str]) -> Gauge:
    name, usual, floor, patience, ends = told
    return Gauge(
        name=name,
        usual=float(usual),
        floor=float(floor),
        patience_seconds=float(patience),
        ends=bool(int(ends)),
    )


UNKNOWN = Calibration()


def unknown(why: str) -> Calibration:
    """The cautious default, with the reason why nothing better is known."""
    words = f"{why}; assuming phi = {DEFAULT_PHI:g} and k = {DEFAULT_CAP}"
    return Calibration(words=words)


def unplayed(found: Calibration, why: str) -> Calibration:
    """As careful as without a past, or more so where what was measured is: it was not tried."""
    return replace(
        found,
        phi=max(found.phi, DEFAULT_PHI),
        latency_phi=max(found.latency_phi, DEFAULT_PHI),
        cap_scrapes=max(found.cap_scrapes, DEFAULT_CAP),
        words=f"{found.words}; {why}, so phi = {DEFAULT_PHI:g} and k = {DEFAULT_CAP} at least",
    )


def watching(found: Calibration, gauges: tuple[Gauge, ...]) -> Calibration:
    """The same with what can run out, which is told as well."""
    if not gauges:
        return found
    names = ", ".join(gauge.name for gauge in gauges)
    return replace(found, gauges=gauges, words=f"{found.words}; watched for exhaustion: {names}")


def of(known: Past, run_seconds: float = math.inf) -> Calibration:
    """What the past says of a run that is planned to last so long."""
    if not known.rows:
        return unknown("stable has no history")
    found = estimate(known.rows, past.planned(run_seconds, known.gap))
    run = past.planned(run_seconds, known.slow_gap)
    slow = {
        bound: ratio
        for bound, rows in known.slow.items()
        if (ratio := _bunched(rows, run, far=bound >= known.far_from)) is not None
    }
    usual = max((slow[bound] for bound in slow if bound < known.far_from), default=DEFAULT_PHI)
    far = {
        bound: phi
        for bound in slow
        if bound >= known.far_from and (phi := min(slow[bound], MOST_FAR)) > usual
    }
    return replace(
        found,
        latency_phi=usual,
        far_phi=max(far.values(), default=1.0),
        far_bound=min(far, default=math.inf),
        volume=known.volume if found.known else 0.0,
        rate=known.rate if found.known else 0.0,
        usual_rate=known.rate if known.total[0] >= LEAST_SEEN else None,
        buckets=known.buckets,
    )


def _bunched(rows: Mapping[str, Sequence[Count]], run: int | None, *, far: bool) -> float | None:
    """Phi of answers slower than a bound. Where those far out fell into too few scrapes to compare
    many, that is how they bunch.
    """
    found = dispersion.phi(rows, run, pairs=dispersion.LEAST_PAIRS)
    return dispersion.phi(rows, run, few=True) if found is None and far else found


def estimate(rows: Mapping[str, Sequence[Count]], run: int | None = None) -> Calibration:
    """What counts of errors alone say; see `dispersion.phi` for the arguments."""
    errors = sum(count[1] for row in rows.values() for count in row)
    length = min((len(row) for row in rows.values()), default=0)
    told = f"{errors} errors in {length} intervals of stable's history"
    if errors < LEAST_ERRORS:
        return unknown(f"{told}, at least {LEAST_ERRORS} errors are needed")
    found = dispersion.phi(rows, run)
    if found is None:
        return unknown(f"{told}, too short to compare anything")
    by = f"{len(rows)} pods" if len(rows) > 1 else "neighbouring stretches of time"
    words = f"phi = {found:g} from {told}, by {by}; k = {KNOWN_CAP}"
    return Calibration(phi=found, cap_scrapes=KNOWN_CAP, known=True, words=words)
