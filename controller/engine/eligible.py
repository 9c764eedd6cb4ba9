# SPDX-License-Identifier: Apache-2.0
"""Whether this pod may lead its target; asked before each renewal, mostly without a request."""

from controller.core import leadership
from controller.core.leadership import Pod
from controller.core.values import TargetRef
from controller.engine.records import Records
from controller.ports.cluster import Cluster


class Eligible:
    """Answers for one pod of one target."""

    def __init__(self, *, pod: Pod, target: TargetRef, cluster: Cluster, records: Records) -> None:
        """`pod` is this process's own."""
        self._pod = pod
        self._target = target
        self._cluster = cluster
        self._records = records

    async def barred(self) -> str:
        """Why not; empty: it may. Errors as `Documents.runs`."""
        deployment = self._cluster.view(self._target).deployment
        runs = []
        if leadership.trusted(self._pod, deployment) is None:
            runs = (await self._records.fresh()).active
        return leadership.barred(self._pod, deployment, runs)
