# SPDX-License-Identifier: Apache-2.0
"""`release`, `retry` and `promote` go to the daemon, and say clearly what came of it."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.cli.room import thread_serving, typed
from tests.support.realtime import app_serving, free_port

ACTS = {
    "release": ("release",),
    "release of a target": ("release", "shop/checkout"),
    "retry": ("retry", "shop/checkout", "--reason", "fixed"),
    "promote": ("promote", "shop/checkout", "--reason", "sure"),
}


@dataclass
class Desk:
    """A daemon's door that answers what a test says."""

    url: str = ""
    status: int = 202
    body: bytes = b'{"accepted": true, "words": "so be it", "scope": "all"}'
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        """Note what was asked."""
        told = json.loads(await request.body())
        self.asked.append((request.url.path, told, dict(request.headers)))
        return Response(self.body, status_code=self.status)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One that listens."""
    found = Desk()
    app = Starlette(routes=[Route("/{path:path}", found.answer, methods=["POST"])])

    @contextlib.asynccontextmanager
    async def served() -> AsyncIterator[str]:
        async with app_serving(app) as url:
            yield url

    with thread_serving(served) as url:
        found.url = url
        yield found


@pytest.mark.parametrize("words", ACTS.values(), ids=ACTS)
def test_a_daemon_that_is_not_there_is_one_clear_message(words: tuple[str, ...]) -> None:
    """Exit 3, with the address that was tried and how to give another."""
    server = f"http://127.0.0.1:{free_port()}"
    result = typed(*words, "--server", server)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: the daemon at {server} was not reached")
    assert "--server" in line


@pytest.mark.parametrize("server", ["nowhere", "http://[::1", "ftp://a"])
def test_an_address_that_is_none_is_one_clear_message(server: str) -> None:
    """Nothing is asked of anybody."""
    result = typed("release", "--server", server)
    assert result.exit_code in {2, 3}
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (("release",), "/v1/release", {"reason": ""}),
        (("release", "--namespace-only", "shop"), "/v1/release", {"namespace": "shop"}),
        (("release", "shop/checkout"), "/v1/targets/shop/checkout/release", {"reason": ""}),
        (ACTS["retry"], "/v1/targets/shop/checkout/retry", {"reason": "fixed"}),
        (ACTS["promote"], "/v1/targets/shop/checkout/promote", {"reason": "sure"}),
    ],
)
def test_what_is_asked(
    words: tuple[str, ...], path: str, body: dict[str, str], desk: Desk, tmp_path: Path
) -> None:
    """The door, the reason, the token and the name of who asks."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    result = typed(*words, "--server", f"{desk.url}/", "--token-file", str(token))
    assert result.exit_code == 0, result.output
    assert result.stdout in {"so be it\n", "released: all\n"}
    ((asked, told, headers),) = desk.asked
    assert asked == path
    assert body.items() <= told.items()
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["x-switchgear-actor"]


def test_a_refusal_is_said_in_the_daemons_words(desk: Desk) -> None:
    """Exit 1."""
    desk.status, desk.body = 409, b'{"code": "Refused", "detail": "it is not being judged now"}'
    result = typed(*ACTS["promote"], "--server", desk.url)
    assert result.exit_code == 1
    assert result.stderr == "Error: it is not being judged now\n"


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[]", b"\xff"])
def test_somebody_else_who_answers_is_not_the_daemon(body: bytes, desk: Desk) -> None:
    """A proxy's page is no answer: exit 3."""
    for status in (200, 502):
        desk.status, desk.body = status, body
        result = typed("release", "--server", desk.url)
        assert result.exit_code == 3, result.output
        assert f"answered {status}, but that was not the daemon" in result.stderr


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_token_that_cannot_be_read_is_wrong_usage(
    content: bytes | None, tmp_path: Path, desk: Desk
) -> None:
    """Exit 2, and nothing is asked without it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    result = typed("release", "--server", desk.url, "--token-file", str(file))
    assert result.exit_code == 2
    assert desk.asked == []


@pytest.mark.parametrize("command", ["retry", "promote"])
def test_toward_risk_a_reason_is_asked_for(command: str) -> None:
    """Exit 2 without one."""
    result = typed(command, "shop/checkout")
    assert result.exit_code == 2
    assert "--reason" in result.stderr
