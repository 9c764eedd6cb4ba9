# SPDX-License-Identifier: Apache-2.0
"""Creating, replacing, patching and deleting on behalf of a client.

The store does what every write has in common; here is what a request adds: preconditions in the
body, patch dialects, field owners, dry run, and the answers that differ by kind.
"""

from __future__ import annotations

import json
from typing import Any

from controller.sim.apiserver import errors, merging, ownership, scale
from controller.sim.apiserver.checks import bad, denied, missing, unsupported
from controller.sim.apiserver.decode import decode, parse
from controller.sim.apiserver.defaults import apply_defaults
from controller.sim.apiserver.errors import JsonObject, bad_request, invalid
from controller.sim.apiserver.ownership import Writer
from controller.sim.apiserver.patch import json_patch, merge_patch
from controller.sim.apiserver.request import Request, Target
from controller.sim.apiserver.resources import Resource
from controller.sim.apiserver.schema import schema_for
from controller.sim.apiserver.store import Store, clone, rfc3339
from controller.sim.apiserver.strategic import strategic_merge

APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_PROPAGATION = ("Foreground", "Background", "Orphan")

Written = tuple[int, JsonObject, list[str]]
"""Status, object and warnings."""


class Writes:
    """The writing verbs over one store."""

    def __init__(self, store: Store, *, track_fields: bool = True) -> None:
        self._store = store
        self._track = track_fields

    # --- verbs ---------------------------------------------------------------------------------

    def create(self, request: Request, target: Target) -> Written:
        """Create an object. Raises ApiError."""
        dry_run = _dry_run(request, "CreateOptions")
        obj, warnings = self._decoded(request, target)
        _check_place(target, obj, named=False)
        if not target.resource.custom and not _named(obj):
            cause = missing("metadata.name", "name or generateName is required")
            raise invalid(target.resource.kind, target.resource.group, "", [cause])
        self._own(request, target, None, obj)
        made = self._store.create(target.resource, target.namespace, obj, dry_run=dry_run)
        return 201, made, warnings

    def update(self, request: Request, target: Target) -> Written:
        """Replace an object, or create it where the kind allows that. Raises ApiError."""
        served = target.resource
        dry_run = _dry_run(request, "UpdateOptions")
        if target.subresource == "scale":
            return 200, scale.put(self._store, request, target, self._writer(request, target)), []
        obj, warnings = self._decoded(request, target)
        _check_place(target, obj, named=True)
        old = self._store.peek(served, target.namespace, target.name)
        if old is None:
            if not served.create_on_update or target.subresource:
                raise errors.not_found(served.plural, served.group, target.name)
            self._own(request, target, None, obj)
            made = self._store.create(served, target.namespace, obj, dry_run=dry_run)
            return 201, made, warnings
        if not obj["metadata"].get("resourceVersion") and not served.unconditional_update:
            cause = bad("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(served.plural, served.group, target.name, [cause])
        return 200, self._replace(request, target, old, obj, dry_run=dry_run), warnings

    def patch(self, request: Request, target: Target) -> Written:
        """Patch an object, or apply to it. Raises ApiError."""
        served = target.resource
        kind = request.content_type
        dry_run = _dry_run(request, "PatchOptions")
        _check_patch_options(request, kind)
        if target.subresource == "scale":
            return 200, scale.patch(self._store, request, target, self._writer(request, target)), []
        if kind == APPLY:
            return self._apply(request, target, dry_run=dry_run)
        old = self._store.peek(served, target.namespace, target.name)
        if old is None:
            raise errors.not_found(served.plural, served.group, target.name)
        patched = apply_patch(served, kind, old, request.body)
        _check_place(target, patched, named=True)
        obj, warnings = _checked_patch(served, patched, strict=_strict(request))
        uid = obj["metadata"].get("uid")
        if uid and uid != old["metadata"]["uid"]:
            cause = bad("metadata.uid", uid, "field is immutable")
            raise invalid(served.kind, served.group, target.name, [cause])
        return 200, self._replace(request, target, old, obj, dry_run=dry_run), warnings

    def delete(self, request: Request, target: Target) -> Written:
        """Delete one object. Raises ApiError."""
        served = target.resource
        options = _delete_options(request)
        preconditions = options.get("preconditions") or {}
        old = self._store.peek(served, target.namespace, target.name)
        if old is None:
            raise errors.not_found(served.plural, served.group, target.name)
        _check_delete_preconditions(served, old, preconditions)
        gone = self._store.delete(
            served,
            target.namespace,
            target.name,
            propagation=_propagation(served, options, old),
            grace=options.get("gracePeriodSeconds"),
            dry_run="All" in (options.get("dryRun") or []),
        )
        held = gone["metadata"].get("finalizers") or served.key in ("pods", "namespaces")
        if held:
            return 200, gone, []
        details = {"name": target.name, "group": served.group, "kind": served.plural}
        details["uid"] = old["metadata"]["uid"]
        return 200, _success({key: value for key, value in details.items() if value}), []

    def delete_all(
        self, request: Request, target: Target, objects: list[JsonObject]
    ) -> list[JsonObject]:
        """Delete each of `objects` and return the last forms."""
        options = _delete_options(request)
        return [
            self._store.delete(
                target.resource,
                obj["metadata"].get("namespace"),
                obj["metadata"]["name"],
                propagation=_propagation(target.resource, options, obj),
                grace=options.get("gracePeriodSeconds"),
                dry_run="All" in (options.get("dryRun") or []),
            )
            for obj in objects
        ]

    # --- inside --------------------------------------------------------------------------------

    def _decoded(self, request: Request, target: Target) -> tuple[JsonObject, list[str]]:
        served = target.resource
        raw = parse(request.body, request.content_type, served.kind)
        _check_kind(served, raw)
        return decode(served, raw, strict=_strict(request))

    def _writer(self, request: Request, target: Target, operation: str = "Update") -> Writer:
        return Writer(
            manager=request.manager,
            operation=operation,
            subresource=target.subresource,
            time=rfc3339(self._store.clock()),
        )

    def _own(
        self, request: Request, target: Target, old: JsonObject | None, obj: JsonObject
    ) -> None:
        if not self._track:
            return
        if target.subresource == "":
            apply_defaults(target.resource, obj, old)
        ownership.record_update(target.resource, old, obj, self._writer(request, target))

    def _replace(
        self,
        request: Request,
        target: Target,
        old: JsonObject,
        obj: JsonObject,
        *,
        dry_run: bool,
    ) -> JsonObject:
        served = target.resource
        version, uid = obj["metadata"].get("resourceVersion"), obj["metadata"].get("uid")
        if uid and uid != old["metadata"]["uid"]:
            have = old["metadata"]["uid"]
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {have}"
            raise errors.conflict(served.plural, served.group, target.name, why)
        if version and version != old["metadata"]["resourceVersion"]:
            raise errors.stale(served.plural, served.group, target.name)
        merged = merging.merged(served, old, obj, target.subresource)
        if self._track and "managedFields" not in (obj["metadata"]):
            merged["metadata"]["managedFields"] = clone(old["metadata"].get("managedFields"))
        self._own(request, target, old, merged)
        merged["metadata"]["resourceVersion"] = version or old["metadata"]["resourceVersion"]
        return self._store.update(served, merged, target.subresource, dry_run=dry_run)

    def _apply(self, request: Request, target: Target, *, dry_run: bool) -> Written:
        served = target.resource
        raw = parse(request.body, APPLY, served.kind)
        if (raw.get("apiVersion"), raw.get("kind")) != (served.api_version, served.kind):
            group, _, version = str(raw.get("apiVersion") or "/").rpartition("/")
            text = f"invalid object type: {group}/{version}, Kind={raw.get('kind') or ''}"
            raise bad_request(text)
        meta = raw.setdefault("metadata", {})
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        config, warnings = decode(served, raw, strict=_strict(request))
        config["metadata"].setdefault("name", target.name)
        if served.namespaced:
            config["metadata"].setdefault("namespace", target.namespace)
        _check_place(target, config, named=True)
        live = self._store.peek(served, target.namespace, target.name)
        _check_applied_versions(target, live, meta)
        writer = self._writer(request, target, "Apply")
        force = request.flag("force")
        merged = ownership.apply(served, live, config, writer, force=force)
        if live is None:
            made = self._store.create(served, target.namespace, merged, dry_run=dry_run)
            return 201, made, warnings
        merged, _ = decode(served, merged)
        merged["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        done = self._store.update(served, merged, target.subresource, dry_run=dry_run)
        return 200, done, warnings


def apply_patch(served: Resource, kind: str, old: JsonObject, body: bytes) -> JsonObject:
    """Return the object with a patch of one of three dialects. Raises ApiError 400, 415, 422."""
    accepted = [JSON_PATCH, MERGE_PATCH, *([] if served.custom else [STRATEGIC_PATCH]), APPLY]
    if kind not in accepted:
        raise errors.unsupported_media_type(accepted)
    try:
        content = json.loads(body)
    except ValueError as error:
        raise bad_request(f"error decoding patch: {error}") from error
    if kind == JSON_PATCH:
        out: Any = json_patch(old, content)
    elif not isinstance(content, dict):
        text = "json: cannot unmarshal array into Go value of type map[string]interface {}"
        raise bad_request(f"error decoding patch: {text}")
    elif kind == MERGE_PATCH:
        out = merge_patch(old, content)
    else:
        out = strategic_merge(schema_for(served), old, content)
    if not isinstance(out, dict):
        raise errors.unprocessable("the server rejected our request due to an error in our request")
    return out


def _checked_patch(
    served: Resource, patched: JsonObject, *, strict: bool
) -> tuple[JsonObject, list[str]]:
    obj, warnings = decode(served, patched)
    if strict and warnings:
        why = "strict decoding error: " + ", ".join(warnings)
        raise invalid("", "", "", [bad("patch", "", why)])
    return obj, warnings


def _success(details: JsonObject) -> JsonObject:
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    return {**head, "status": "Success", "details": details}


def _strict(request: Request) -> bool:
    return request.param("fieldValidation") == "Strict"


def _named(obj: JsonObject) -> bool:
    meta = obj["metadata"]
    return bool(meta.get("name") or meta.get("generateName"))


def _dry_run(request: Request, options: str) -> bool:
    text = request.param("dryRun")
    if text in ("", "All"):
        return bool(text)
    cause = unsupported("dryRun", [text], ["All"])
    raise invalid(options, "meta.k8s.io", "", [cause])


def _check_patch_options(request: Request, kind: str) -> None:
    causes = []
    if kind == APPLY and not request.param("fieldManager"):
        causes.append(missing("fieldManager", "is required for apply patch"))
    if kind != APPLY and request.param("force"):
        causes.append(denied("force", "may not be specified for non-apply patch"))
    if causes:
        raise invalid("PatchOptions", "meta.k8s.io", "", causes)


def _check_kind(served: Resource, raw: JsonObject) -> None:
    kind, version = raw.get("kind"), raw.get("apiVersion")
    if served.custom and not kind:
        text = f"the object provided is unrecognized (must be of type {served.kind}): "
        raise bad_request(text + "Object 'Kind' is missing")
    if kind not in (None, "", served.kind) or version not in (None, "", served.api_version):
        text = f'{kind} in version "{served.version}" cannot be handled as a {served.kind}: '
        raise bad_request(f'{text}no kind "{kind}" is registered for version "{version}"')


def _check_place(target: Target, obj: JsonObject, *, named: bool) -> None:
    meta = obj.setdefault("metadata", {})
    space = meta.get("namespace")
    if target.resource.namespaced and space and space != target.namespace:
        text = (
            "the namespace of the provided object does not match the namespace sent on the request"
        )
        raise bad_request(text)
    if target.resource.namespaced:
        meta["namespace"] = target.namespace
    name = meta.get("name")
    if not named:
        return
    if not name:
        why = f"the name of the object ({target.name} based on URL) was undeterminable"
        raise bad_request(f"{why}: name must be provided")
    if name != target.name:
        why = f"the name of the object ({name}) does not match the name on the URL ({target.name})"
        raise bad_request(why)


def _check_applied_versions(target: Target, live: JsonObject | None, meta: JsonObject) -> None:
    served = target.resource
    version, uid = meta.get("resourceVersion"), meta.get("uid")
    if live is None:
        if uid:
            given = f"the provided object specified uid {uid}"
            why = f"uid mismatch: {given}, and no existing object was found"
            raise errors.conflict(served.plural, served.group, target.name, why)
        return
    if version and version != live["metadata"]["resourceVersion"]:
        raise errors.stale(served.plural, served.group, target.name)


def _delete_options(request: Request) -> JsonObject:
    options: JsonObject = {}
    if request.body.strip():
        options = parse(request.body, request.content_type, "DeleteOptions")
    if request.param("propagationPolicy"):
        options["propagationPolicy"] = request.param("propagationPolicy")
    if request.param("gracePeriodSeconds"):
        options["gracePeriodSeconds"] = request.number("gracePeriodSeconds")
    if request.param("dryRun"):
        options["dryRun"] = [request.param("dryRun")]
    policy = options.get("propagationPolicy")
    if policy is not None and policy not in _PROPAGATION:
        listed_policies = ", ".join(f'"{name}"' for name in (*_PROPAGATION, "nil"))
        message = f'Unsupported value: "{policy}": supported values: {listed_policies}'
        cause = errors.Cause(
            reason="FieldValueNotSupported", message=message, field="propagationPolicy"
        )
        raise invalid("DeleteOptions", "meta.k8s.io", "", [cause])
    return options


def _propagation(served: Resource, options: JsonObject, old: JsonObject) -> str | None:
    policy = options.get("propagationPolicy")
    if policy is not None:
        return str(policy)
    if options.get("orphanDependents"):
        return "Orphan"
    return None if old["metadata"].get("finalizers") or served.custom else "Background"


def _check_delete_preconditions(served: Resource, old: JsonObject, asked: JsonObject) -> None:
    meta = old["metadata"]
    checks = (
        ("UID", "uid", "deleted and then recreated"),
        ("ResourceVersion", "resourceVersion", "modified"),
    )
    for label, field, how in checks:
        wanted = asked.get(field)
        if wanted is not None and wanted != meta[field]:
            why = (
                f"the {label} in the precondition ({wanted}) does not match the {label} in record "
                f"({meta[field]}). The object might have been {how}"
            )
            raise errors.conflict(served.kind, served.group, meta["name"], why)
