# SPDX-License-Identifier: Apache-2.0
"""The API server: one entry for every request, in process and over HTTP alike.

It waits only through the running event loop, so that it works in virtual time. Faults are injected
through hooks: `before` may answer instead of the server (or never return), `after` may lose the
answer although the effect has happened, which is the harder half of every distributed problem.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.sim.apiserver import discovery, errors, podops, scale, tables
from controller.sim.apiserver.decode import parse
from controller.sim.apiserver.errors import ApiError, JsonObject
from controller.sim.apiserver.lists import list_objects
from controller.sim.apiserver.request import (
    Request,
    Response,
    Target,
    error_response,
    json_response,
    target_of,
    text_response,
)
from controller.sim.apiserver.reviews import REVIEWS, Access
from controller.sim.apiserver.selectors import Predicate, both, field_selector, label_selector
from controller.sim.apiserver.store import Store
from controller.sim.apiserver.tokens import User
from controller.sim.apiserver.validation import Strategy
from controller.sim.apiserver.watch import BUFFER, WatchHub
from controller.sim.apiserver.writes import Writes

Before = Callable[[Request], Awaitable[Response | None]]
After = Callable[[Request, Response], Awaitable[None]]

_ADMIN = User(name="system:admin", groups=("system:masters", "system:authenticated"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One answered request."""

    user_agent: str
    verb: str
    path: str
    code: int


class ApiServer:
    """Requests in, responses out, over one store.

    `token`, if given, must come as bearer token with every request. `track_fields=False` leaves
    out `managedFields` (and with them server-side apply's conflicts) for long simulations.
    `watch_buffer` is the number of frames that a watch may lag behind before it is ended.
    """

    def __init__(
        self,
        store: Store,
        *,
        allow_loopback_endpoints: bool = False,
        token: str | None = None,
        access: Access | None = None,
        track_fields: bool = True,
        watch_buffer: int = BUFFER,
    ) -> None:
        self.store = store
        self.access = access or Access()
        self.before: list[Before] = []
        self.after: list[After] = []
        self.audit: Callable[[AuditEntry], None] | None = None
        self._token = token
        self._writes = Writes(store, track_fields=track_fields)
        self.watches = WatchHub(store, watch_buffer)
        store.strategy = Strategy(allow_loopback_endpoints=allow_loopback_endpoints)

    def close(self) -> None:
        """End all open watches."""
        self.watches.close()

    async def handle(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        """Answer one request; refusals are responses, only hooks may raise."""
        lowered = {key.lower(): value for key, value in (headers or {}).items()}
        request = Request(method=method, path=path, query=tuple(query), headers=lowered, body=body)
        response: Response | None = None
        for hook in list(self.before):
            response = response or await hook(request)
        if response is None:
            try:
                response = await self._answer(request)
            except ApiError as error:
                response = error_response(error)
        if self.audit is not None:
            self.audit(_entry(request, response))
        for after in list(self.after):
            await after(request, response)
        return response

    # --- routing -------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Response:
        if request.path in discovery.HEALTH:
            return text_response(200, "ok")
        if self._token is not None:
            given = request.headers.get("authorization", "")
            if given != f"Bearer {self._token}":
                raise ApiError(401, "Unauthorized", "Unauthorized")
        kind = REVIEWS.get(request.path)
        if kind is not None:
            return self._review(request, kind)
        found = discovery.document(request.path)
        if found is not None:
            return json_response(200, found)
        if request.path.strip("/").split("/")[0] not in ("api", "apis"):
            return text_response(404, "404 page not found\n")
        return await self._resource(request, target_of(request.path))

    def _review(self, request: Request, kind: str) -> Response:
        if request.method != "POST":
            raise errors.method_not_allowed()
        review = parse(request.body, request.content_type, kind)
        if kind == "TokenReview":
            return json_response(201, self.access.token_review(review))
        return json_response(201, self.access.access_review(review, kind, _ADMIN))

    async def _resource(self, request: Request, target: Target) -> Response:
        if not target.name:
            return await self._collection(request, target)
        if target.subresource in podops.HANDLERS and request.method == "POST":
            status, obj = podops.HANDLERS[target.subresource](self.store, request, target)
            return json_response(status, obj)
        match request.method:
            case "GET":
                return self._get(request, target)
            case "PUT":
                status, obj, warnings = self._writes.update(request, target)
            case "PATCH":
                status, obj, warnings = self._writes.patch(request, target)
            case "DELETE" if not target.subresource:
                status, obj, warnings = self._writes.delete(request, target)
            case _:
                raise errors.method_not_allowed()
        return json_response(status, self._shown(request, target, obj), warnings)

    async def _collection(self, request: Request, target: Target) -> Response:
        if request.method == "POST":
            if target.resource.namespaced and not target.namespace:
                raise errors.method_not_allowed()
            status, obj, warnings = self._writes.create(request, target)
            return json_response(status, self._shown(request, target, obj), warnings)
        if request.method not in ("GET", "DELETE"):
            raise errors.method_not_allowed()
        matches = self._selected(request, target)
        if request.method == "GET" and request.flag("watch"):
            return self._watch(request, target, matches)
        meta, objects = await list_objects(
            self.store, request, target.resource, target.namespace, matches
        )
        if request.method == "DELETE":
            objects = self._writes.delete_all(request, target, objects)
        return json_response(200, self._listed(request, target, meta, objects))

    def _watch(self, request: Request, target: Target, matches: Predicate | None) -> Response:
        def render(obj: JsonObject) -> JsonObject:
            return self._shown(request, target, obj)

        return self.watches.open(request, target.resource, target.namespace, matches, render)

    def _get(self, request: Request, target: Target) -> Response:
        served = target.resource
        if target.subresource == "scale":
            return json_response(200, scale.get(self.store, target))
        found = self.store.peek(served, target.namespace, target.name)
        if found is None:
            raise errors.not_found(served.plural, served.group, target.name)
        return json_response(200, self._shown(request, target, found))

    def _selected(self, request: Request, target: Target) -> Predicate | None:
        labels = label_selector(request.param("labelSelector"))
        return both(labels, field_selector(target.resource, request.param("fieldSelector")))

    # --- forms ---------------------------------------------------------------------------------

    def _shown(self, request: Request, target: Target, obj: JsonObject) -> JsonObject:
        """Return the object in the form that the client accepts."""
        form = _form(request)
        if "kind" in obj and obj["kind"] in ("Status", "Scale"):
            return obj
        if form == "Table":
            meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            include = request.param("includeObject", "Metadata")
            now = self.store.clock()
            return tables.table(target.resource, [obj], meta, now, include=include)
        return tables.partial(obj) if form.startswith("PartialObjectMetadata") else obj

    def _listed(
        self, request: Request, target: Target, meta: JsonObject, objects: list[JsonObject]
    ) -> JsonObject:
        served = target.resource
        form = _form(request)
        if form == "Table":
            include = request.param("includeObject", "Metadata")
            return tables.table(served, objects, meta, self.store.clock(), include=include)
        head = {"kind": f"{served.kind}List", "apiVersion": served.api_version, "metadata": meta}
        if form.startswith("PartialObjectMetadata"):
            head.update(kind="PartialObjectMetadataList", apiVersion="meta.k8s.io/v1")
            return {**head, "items": [tables.partial(obj) for obj in objects]}
        if served.custom:
            return {**head, "items": objects}
        # Built-in kinds do not repeat their kind on every item of a list.
        bare = [
            {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
            for obj in objects
        ]
        return {**head, "items": bare}


def _form(request: Request) -> str:
    """Return the `as=` parameter of the first form in Accept that this server can produce."""
    for choice in request.headers.get("accept", "").split(","):
        parts = [part.strip() for part in choice.split(";")]
        if parts[0] not in ("application/json", "*/*", ""):
            continue
        named = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
        form = named.get("as", "")
        if form in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
            return form if named.get("v", "v1") == "v1" else ""
        if not form:
            return ""
    return ""


def _entry(request: Request, response: Response) -> AuditEntry:
    verb = request.method
    if verb == "GET" and request.flag("watch"):
        verb = "WATCH"
    agent = request.headers.get("user-agent", "")
    return AuditEntry(user_agent=agent, verb=verb, path=request.path, code=response.status)
