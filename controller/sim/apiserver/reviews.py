# SPDX-License-Identifier: Apache-2.0
"""Who a token is and what somebody may do, from a table.

Real clusters have authenticators and RBAC; a table is enough for the product, which only asks
TokenReview and SubjectAccessReview and never looks behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.sim.apiserver.errors import JsonObject
from controller.sim.apiserver.tokens import SERVER, User, holder

Allowed = Callable[[str, tuple[str, ...], JsonObject], bool]
"""User name, groups and resource attributes to the answer."""


def everything(_user: str, _groups: tuple[str, ...], _attributes: JsonObject) -> bool:
    """Allow all, as for a cluster administrator."""
    return True


@dataclass(slots=True, kw_only=True)
class Access:
    """The table: users by token, and a rule that answers who may do what."""

    users: Mapping[str, User] = field(default_factory=dict)
    allowed: Allowed = everything

    def token_review(self, review: JsonObject) -> JsonObject:
        """Return the review of a token with its status."""
        spec = review.get("spec") or {}
        token = str(spec.get("token", ""))
        user = self.users.get(token) or holder(token)
        wanted = spec.get("audiences") or [SERVER]
        if user is None:
            status: JsonObject = {"user": {}, "error": "invalid bearer token"}
        elif user.audiences and not set(wanted) & set(user.audiences):
            why = f"token audiences {list(user.audiences)} is invalid for the target audiences"
            status = {"user": {}, "error": f"{why} {wanted}"}
        else:
            shared = [one for one in wanted if one in user.audiences] or wanted
            status = {"authenticated": True, "user": user.render(), "audiences": shared}
        return _reviewed("authentication.k8s.io/v1", "TokenReview", spec, status)

    def access_review(self, review: JsonObject, kind: str, me: User) -> JsonObject:
        """Return the review of an access, of somebody named or of the caller."""
        spec = review.get("spec") or {}
        attributes = spec.get("resourceAttributes") or spec.get("nonResourceAttributes") or {}
        if kind == "SelfSubjectAccessReview":
            user, groups = me.name, me.groups
        else:
            user, groups = str(spec.get("user", "")), tuple(spec.get("groups") or ())
        status = {"allowed": self.allowed(user, groups, attributes)}
        return _reviewed("authorization.k8s.io/v1", kind, spec, status)


def _reviewed(version: str, kind: str, spec: JsonObject, status: JsonObject) -> JsonObject:
    head = {"kind": kind, "apiVersion": version, "metadata": {}}
    return {**head, "spec": spec, "status": status}


REVIEWS = {
    "/apis/authentication.k8s.io/v1/tokenreviews": "TokenReview",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": "SubjectAccessReview",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": "SelfSubjectAccessReview",
}
