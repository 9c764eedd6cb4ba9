# SPDX-License-Identifier: Apache-2.0
"""Whether an account may do what the controller does, asked of the API server itself."""

import asyncio
from collections.abc import Sequence
from typing import Final

from controller.adapters.kube.calls import Calls

REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

AT_ONCE: Final = 8
"""Questions under way; each is answered from memory."""

_GATEWAY: Final = "gateway.networking.k8s.io"

NEEDED: Final[tuple[tuple[str, str, str], ...]] = (
    ("apps", "deployments", "get list watch create patch delete"),
    ("apps", "replicasets", "get list watch patch delete"),
    ("", "services", "get list watch create patch delete"),
    ("", "pods", "list watch delete"),
    ("discovery.k8s.io", "endpointslices", "list watch"),
    (_GATEWAY, "httproutes", "get list watch patch"),
    (_GATEWAY, "grpcroutes", "get list watch patch"),
    (_GATEWAY, "backendtlspolicies", "list"),
    (_GATEWAY, "referencegrants", "list"),
    (_GATEWAY, "tcproutes", "list"),
    (_GATEWAY, "tlsroutes", "list"),
    ("networking.k8s.io", "ingresses", "list"),
    ("networking.istio.io", "virtualservices", "list"),
    ("traefik.io", "ingressroutes", "list"),
    ("autoscaling", "horizontalpodautoscalers", "list"),
    ("", "resourcequotas", "list"),
    ("", "persistentvolumeclaims", "get"),
    ("", "events", "create"),
)
"""What the controller does in a target's namespace: group, resource and verbs, as in its role."""


async def lacking(calls: Calls, namespace: str, account: tuple[str, str]) -> tuple[str, ...]:
    """What a ServiceAccount, by namespace and name, may not do there, as `patch httproutes`.

    Raises:
        Forbidden: The caller may not ask about others.
        SwitchgearError: There was no answer.
    """
    home, name = account
    slots = asyncio.Semaphore(AT_ONCE)

    async def denied(group: str, resource: str, verb: str) -> bool:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{home}:{name}",
                "groups": [
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{home}",
                    "system:authenticated",
                ],
                "resourceAttributes": {
                    "namespace": namespace,
                    "group": group,
                    "resource": resource,
                    "verb": verb,
                },
            },
        }
        async with slots:
            answer = await calls.post(REVIEWS, body)
        return not (answer.get("status") or {}).get("allowed")

    wanted = asked()
    # The first alone: whoever may not ask hears so once.
    first = await denied(*wanted[0])
    rest = await asyncio.gather(*(denied(*one) for one in wanted[1:]))
    return tuple(
        f"{verb} {resource}"
        for (_, resource, verb), no in zip(wanted, (first, *rest), strict=True)
        if no
    )


def asked() -> Sequence[tuple[str, str, str]]:
    """Every question: group, resource and verb."""
    return [(group, resource, verb) for group, resource, verbs in NEEDED for verb in verbs.split()]
