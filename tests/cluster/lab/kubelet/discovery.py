# SPDX-License-Identifier: Apache-2.0
"""The pods that ask to be scraped, in a file that Prometheus follows.

Distributions build Prometheus without discovery in Kubernetes. The labels are those that it would
have, so that the rules that turn them into a target's labels are the usual ones.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tests.cluster.lab.api import Object

_META = "__meta_kubernetes_"


def write(path: Path, pods: Iterable[Object]) -> None:
    """Write the file anew: readers see the old one or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps([_target(pod) for pod in pods if _wanted(pod)]), encoding="utf-8")
    part.rename(path)


def _wanted(pod: Object) -> bool:
    annotations = pod["metadata"].get("annotations") or {}
    return annotations.get("prometheus.io/scrape") == "true" and bool(
        pod.get("status", {}).get("podIP")
    )


def _target(pod: Object) -> Object:
    meta, status = pod["metadata"], pod["status"]
    labels = {
        f"{_META}namespace": meta["namespace"],
        f"{_META}pod_name": meta["name"],
        f"{_META}pod_ip": status["podIP"],
        f"{_META}pod_phase": status.get("phase", ""),
    }
    for kind in ("annotation", "label"):
        for key, value in (meta.get(f"{kind}s") or {}).items():
            labels[f"{_META}pod_{kind}_{re.sub(r'[^A-Za-z0-9_]', '_', key)}"] = value
    return {"targets": [status["podIP"]], "labels": labels}
