# SPDX-License-Identifier: Apache-2.0
"""Tokens of service accounts: they say themselves whose they are, and nobody checks a signature."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from controller.sim.apiserver.errors import JsonObject

SERVER = "https://kubernetes.default.svc"
"""The audience of the API server itself, which a token without any other has."""

_HEAD = "simulated."


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An authenticated identity."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()

    def render(self) -> JsonObject:
        """Return the user as a TokenReview shows it."""
        shown: JsonObject = {"username": self.name, "groups": list(self.groups)}
        return {**shown, "uid": self.uid} if self.uid else shown


def issued(account: JsonObject, audiences: tuple[str, ...]) -> str:
    """Return a token for the service account with this metadata."""
    told = [account["namespace"], account["name"], account["uid"], list(audiences or (SERVER,))]
    return _HEAD + base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def holder(token: str) -> User | None:
    """Return whose token it is, None if it is none of these."""
    if not token.startswith(_HEAD):
        return None
    try:
        told = json.loads(base64.urlsafe_b64decode(token.removeprefix(_HEAD)))
        namespace, name, uid, audiences = told
    except (binascii.Error, ValueError, TypeError):
        return None
    return User(
        name=f"system:serviceaccount:{namespace}:{name}",
        uid=uid,
        groups=(
            "system:serviceaccounts",
            f"system:serviceaccounts:{namespace}",
            "system:authenticated",
        ),
        audiences=tuple(audiences),
    )
