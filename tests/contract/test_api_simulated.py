# SPDX-License-Identifier: Apache-2.0
"""What only the simulated server can be asked: faults, history, deviations, time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.sim import clock
from controller.sim.apiserver.errors import ApiError
from controller.sim.apiserver.request import Request, Response, text_response
from controller.sim.apiserver.reviews import Access
from controller.sim.apiserver.server import ApiServer, AuditEntry
from controller.sim.apiserver.store import Event, Store
from controller.sim.apiserver.tokens import User
from tests.contract.samples import config_map, endpoint_slice

MAPS = "/api/v1/namespaces/default/configmaps"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def _store(**options: Any) -> Store:
    return Store(lambda: datetime(2026, 1, 5, 9, tzinfo=UTC), **options)


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    clock.run(main(), limit=600.0)


async def _send(
    api: ApiServer,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    **query: str,
) -> Response:
    content = (
        body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    )
    sent = {"Content-Type": "application/json", "User-Agent": "test/1", **(headers or {})}
    return await api.handle(method, path, list(query.items()), sent, content)


async def _frame(body: AsyncIterator[bytes]) -> dict[str, Any]:
    return dict(json.loads(await anext(body)))


def test_a_hook_may_answer_instead_of_the_server() -> None:
    async def test() -> None:
        api = ApiServer(_store())

        async def overloaded(request: Request) -> Response | None:
            return text_response(429, "busy") if request.method == "POST" else None

        api.before.append(overloaded)
        assert (await _send(api, "POST", MAPS, config_map("a"))).status == 429
        assert (await _send(api, "GET", MAPS + "/a")).status == 404

    _run(test)


def test_an_answer_may_be_lost_after_the_effect() -> None:
    async def test() -> None:
        api = ApiServer(_store())

        async def cut(request: Request, _response: Response) -> None:
            if request.method == "POST":
                raise ConnectionResetError

        api.after.append(cut)
        with pytest.raises(ConnectionResetError):
            await _send(api, "POST", MAPS, config_map("a"))
        assert (await _send(api, "GET", MAPS + "/a")).status == 200

    _run(test)


def test_a_token_is_asked_for_where_one_is_set() -> None:
    async def test() -> None:
        api = ApiServer(_store(), token="open-sesame")
        assert (await _send(api, "GET", MAPS)).status == 401
        right = {"Authorization": "Bearer open-sesame"}
        assert (await _send(api, "GET", MAPS, headers=right)).status == 200
        assert (await _send(api, "GET", "/readyz")).status == 200

    _run(test)


def test_every_request_is_audited() -> None:
    async def test() -> None:
        api = ApiServer(_store())
        entries: list[AuditEntry] = []
        api.audit = entries.append
        await _send(api, "POST", MAPS, config_map("a"))
        await _send(api, "GET", MAPS, watch="1")
        assert [(entry.verb, entry.path, entry.code) for entry in entries] == [
            ("POST", MAPS, 201),
            ("WATCH", MAPS, 200),
        ]
        assert entries[0].user_agent == "test/1"

    _run(test)


def test_loopback_endpoints_are_the_one_named_deviation() -> None:
    async def test() -> None:
        body = endpoint_slice("e", "127.77.0.1")
        strict = ApiServer(_store())
        assert (await _send(strict, "POST", SLICES, body)).status == 422
        demo = ApiServer(_store(), allow_loopback_endpoints=True)
        assert (await _send(demo, "POST", SLICES, body)).status == 201
        multicast = endpoint_slice("f", "224.0.0.1")
        assert (await _send(demo, "POST", SLICES, multicast)).status == 422

    _run(test)


def test_bookmarks_come_once_a_minute_and_say_how_far_the_server_is() -> None:
    async def test() -> None:
        api = ApiServer(_store())
        version = str(api.store.version)
        opened = await _send(
            api, "GET", MAPS, watch="1", resourceVersion=version, allowWatchBookmarks="true"
        )
        started = asyncio.get_running_loop().time()
        api.store.create("namespaces", None, {"metadata": {"name": "elsewhere"}})
        frame = await _frame(opened.body)
        assert frame["type"] == "BOOKMARK"
        assert frame["object"]["metadata"] == {"resourceVersion": str(api.store.version)}
        assert asyncio.get_running_loop().time() - started == pytest.approx(60.0)

    _run(test)


def test_a_resumed_watch_meets_a_compacted_history() -> None:
    async def test() -> None:
        api = ApiServer(_store())
        api.store.create("configmaps", "default", config_map("a"))
        version = str(api.store.version)
        api.store.create("configmaps", "default", config_map("b"))
        api.store.compact()
        opened = await _send(api, "GET", MAPS, watch="1", resourceVersion=version)
        frame = await _frame(opened.body)
        assert (frame["type"], frame["object"]["code"]) == ("ERROR", 410)

    _run(test)


def test_a_page_of_a_compacted_list_is_a_410() -> None:
    async def test() -> None:
        api = ApiServer(_store())
        for name in ("a", "b", "c"):
            api.store.create("configmaps", "default", config_map(name))
        first = json.loads(await (await _send(api, "GET", MAPS, limit="1")).read())
        api.store.create("configmaps", "default", config_map("d"))
        api.store.compact()
        token = first["metadata"]["continue"]
        answer = await _send(api, "GET", MAPS, **{"limit": "1", "continue": token})
        assert answer.status == 410

    _run(test)


def test_the_history_is_bounded() -> None:
    store = _store(history=10)
    start = store.version
    for index in range(30):
        store.create("configmaps", "default", config_map(f"c{index}"))
    with pytest.raises(ApiError) as refused:
        store.events_since("configmaps", start)
    assert refused.value.status == 410
    assert len(store.events_since("configmaps", store.version - 5)) == 5


def test_closing_the_server_ends_its_watches() -> None:
    async def test() -> None:
        api = ApiServer(_store())
        opened = await _send(api, "GET", MAPS, watch="1", resourceVersion=str(api.store.version))
        reading = asyncio.ensure_future(opened.read())
        await asyncio.sleep(1.0)
        assert not reading.done()
        api.close()
        assert await reading == b""
        assert len(api.watches) == 0

    _run(test)


def test_a_watch_that_does_not_keep_up_is_ended() -> None:
    async def test() -> None:
        api = ApiServer(_store(), watch_buffer=3)
        opened = await _send(api, "GET", MAPS, watch="1", resourceVersion=str(api.store.version))
        for index in range(5):
            api.store.create("configmaps", "default", config_map(f"c{index}"))
        assert len((await opened.read()).splitlines()) == 3

    _run(test)


def test_a_callback_that_writes_does_not_reorder_events() -> None:
    store = _store()
    told: list[str] = []

    def echo(event: Event) -> None:
        name = event.obj["metadata"]["name"]
        if name == "a":
            store.create("configmaps", "default", config_map("echo"))

    store.subscribe(echo)
    store.subscribe(lambda event: told.append(event.obj["metadata"]["name"]))
    store.create("configmaps", "default", config_map("a"))
    assert told == ["a", "echo"]


def test_nobody_outside_can_change_what_is_stored() -> None:
    store = _store()
    given = config_map("a", x="1")
    made = store.create("configmaps", "default", given)
    given["data"]["x"] = made["data"]["x"] = "changed"
    found = store.get("configmaps", "default", "a")
    assert found is not None
    found["data"]["x"] = "changed"
    (listed,) = store.list("configmaps")
    listed["data"]["x"] = "changed"
    assert store.peek("configmaps", "default", "a") == {**found, "data": {"x": "1"}}


def test_reviews_are_answered_from_the_table() -> None:
    def only_promote(user: str, _groups: tuple[str, ...], attributes: dict[str, Any]) -> bool:
        return user == "ann" and attributes.get("verb") == "promote"

    async def test() -> None:
        users = {"t1": User(name="ann", groups=("people",), audiences=("switchgear",))}
        api = ApiServer(_store(), access=Access(users=users, allowed=only_promote))
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        for audience, expected in (("switchgear", True), ("another", False)):
            body = {"spec": {"token": "t1", "audiences": [audience]}}
            status = json.loads(await (await _send(api, "POST", path, body)).read())["status"]
            assert bool(status.get("authenticated")) is expected
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        for verb, allowed in (("promote", True), ("release", False)):
            spec = {"user": "ann", "resourceAttributes": {"verb": verb}}
            answer = await _send(api, "POST", path, {"spec": spec})
            assert json.loads(await answer.read())["status"]["allowed"] is allowed

    _run(test)


def test_config_maps_arrive_as_protobuf_from_kubectl_create() -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    meta = field(1, b"kill")
    entry = field(1, b"all") + field(2, b"true")
    head = field(1, b"v1") + field(2, b"ConfigMap")
    body = b"k8s\x00" + field(1, head) + field(2, field(1, meta) + field(2, entry))

    async def test() -> None:
        api = ApiServer(_store())
        form = {"Content-Type": "application/vnd.kubernetes.protobuf"}
        assert (await _send(api, "POST", MAPS, body, form)).status == 201
        made = api.store.get("configmaps", "default", "kill")
        assert made is not None
        assert made["data"] == {"all": "true"}

    _run(test)


def test_a_protobuf_of_an_unknown_kind_is_a_415() -> None:
    async def test() -> None:
        api = ApiServer(_store())
        form = {"Content-Type": "application/vnd.kubernetes.protobuf"}
        assert (await _send(api, "POST", MAPS, b"k8s\x00\xff\xff", form)).status == 415

    _run(test)
