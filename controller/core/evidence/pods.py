# SPDX-License-Identifier: Apache-2.0
"""Hard trips: what pods themselves say so clearly that no statistics are needed."""

from collections.abc import Iterable

from controller.core.evidence.reasons import Code, Reason
from controller.core.observation import Pod

CRASH_RESTARTS = 3
"""From this many restarts on a container is crash-looping, whatever it is doing at this moment: a
loop spends seconds running between its crashes, and a look may fall into them."""

IMAGE_ERRORS = frozenset(
    {
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""Reasons of a waiting container that mean: this image does not come."""

CONFIG_ERRORS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "RunContainerError",
    }
)
"""Reasons of a waiting container that mean: this template cannot start."""


def hard_trips(pods: Iterable[Pod]) -> tuple[Reason, ...]:
    """The failures that end a run at once, at most one for each pod."""
    return tuple(reason for pod in pods if (reason := _trip(pod)) is not None)


def _trip(pod: Pod) -> Reason | None:
    if pod.oom_killed:
        return _reason(pod, Code.OUT_OF_MEMORY, "was killed for want of memory")
    if pod.waiting == "CrashLoopBackOff" or pod.restarts >= CRASH_RESTARTS:
        return _reason(pod, Code.CRASH_LOOP, f"is crash-looping, {pod.restarts} restarts so far")
    for known, code, words in (
        (IMAGE_ERRORS, Code.IMAGE_PULL_ERROR, "does not get its image"),
        (CONFIG_ERRORS, Code.CONTAINER_CONFIG_ERROR, "cannot be started as it is written"),
    ):
        if pod.waiting in known:
            return _reason(pod, code, f"{words}: {pod.waiting}")
    if pod.was_ready and not pod.ready and not pod.deleting:
        return _reason(pod, Code.READINESS_LOST, "was ready and is not any more")
    return None


def _reason(pod: Pod, code: Code, words: str) -> Reason:
    return Reason(check="pods", code=code, message=f"canary pod {pod.name} {words}")
