# SPDX-License-Identifier: Apache-2.0
"""The query API's answers: decoding them, and refusing everything that is not one.

Of an instant query with a range selector that is a matrix of raw samples with the scrapes' time
stamps, counters and native histograms, of a user check a vector or a scalar.
"""

from typing import Literal, TypeVar

import msgspec

from controller.core.errors import MetricsUnavailable


class Native(msgspec.Struct, frozen=True):
    """A sample of a native histogram; buckets as [rule, "left", "right", "count"], each alone."""

    count: str
    buckets: list[tuple[int, str, str, str]] = []


class Row(msgspec.Struct, frozen=True):
    """One series: its labels, and its samples as [seconds, "value"], or native histograms."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    histograms: list[tuple[float, Native]] = []


class Point(msgspec.Struct, frozen=True):
    """One series of a vector, with its value as [seconds, "value"]; histograms have none."""

    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None


class Data(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a query; its form depends on `result_type`."""

    result_type: str = ""
    result: msgspec.Raw = msgspec.Raw(b"[]")


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """The envelope of every answer, good or bad."""

    status: Literal["success", "error"]
    data: Data = Data()
    error_type: str = ""
    error: str = ""
    warnings: list[str] = []


Decoded = TypeVar("Decoded")

_ANSWERS = msgspec.json.Decoder(Answer)
_ROWS = msgspec.json.Decoder(list[Row])
_POINTS = msgspec.json.Decoder(list[Point])
_SCALAR = msgspec.json.Decoder(tuple[float, str])


def matrix(status: int, body: bytes) -> tuple[list[Row], list[str]]:
    """The rows and warnings of an answer.

    Raises:
        MetricsUnavailable: It is an error, no JSON, not of that form, or no matrix.
    """
    answer = _answer(status, body)
    if answer.data.result_type != "matrix":
        raise _refusal(status, f"expected a matrix and got {answer.data.result_type!r}")
    return _decoded(_ROWS, answer, status), answer.warnings


def points(status: int, body: bytes) -> tuple[list[Point], list[str]]:
    """The values and warnings of an answer; a scalar is a series without labels.

    Raises:
        MetricsUnavailable: It is an error, no JSON, not of that form, or neither of the two.
    """
    answer = _answer(status, body)
    match answer.data.result_type:
        case "vector":
            found = _decoded(_POINTS, answer, status)
        case "scalar":
            found = [Point(value=_decoded(_SCALAR, answer, status))]
        case other:
            raise _refusal(status, f"expected a vector and got {other!r}")
    return found, answer.warnings


def _answer(status: int, body: bytes) -> Answer:
    try:
        answer = _ANSWERS.decode(body)
    except msgspec.DecodeError as error:
        # A proxy in between answers with a page of its own.
        said = body[:120].decode(errors="replace").strip()
        raise _refusal(status, f"no answer of Prometheus: {said!r}") from error
    if answer.status != "success" or status >= 400:
        told = answer.error[:300] or "no reason given"
        raise _refusal(status, f"{answer.error_type or 'error'}: {told}")
    return answer


def _decoded(decoder: msgspec.json.Decoder[Decoded], answer: Answer, status: int) -> Decoded:
    try:
        return decoder.decode(answer.data.result)
    except msgspec.DecodeError as error:
        said = f"the {answer.data.result_type} is not of the documented form"
        raise _refusal(status, said) from error


def _refusal(status: int, said: str) -> MetricsUnavailable:
    match status:
        case 401 | 403:
            advice = "check the credentials for the metrics store"
        case 404:
            advice = "check the URL: it must be the address before /api/v1"
        case 429 | 502 | 503 | 504:
            advice = "the metrics store is overloaded or not there; asked again at the next tick"
        case _:
            advice = "asked again at the next tick"
    return MetricsUnavailable(f"metrics store answered {status}, {said}", advice=advice)
