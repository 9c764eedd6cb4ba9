# SPDX-License-Identifier: Apache-2.0
"""Expositions of proxies that do not run here, put together from what their own sources show.

Istio: the labels, their order and the values of `reporter` are those that the tests of istio/proxy
expect of client, server and waypoint (testdata/metric, files `*_request_total.yaml.tmpl`). Linkerd:
names, labels and bounds are those that linkerd2-proxy registers and encodes (linkerd/app/outbound,
src/metrics.rs, and metrics.rs and labels.rs below src/http/logical/policy/route).

No recording of two versions was found in public. What single series of real proxies are to be found
there (of Istio from 2024, of Linkerd in linkerd/website#2069) have these labels in this order.

Each row says how many requests there were before the first scrape, and how many between the two.
"""

from collections.abc import Iterator, Mapping, Sequence

Labels = Mapping[str, str]

STABLE = ("shop", "checkout")
CANARY = ("shop", "checkout-canary")
NAMESAKE = ("bank", "checkout")

SLOW = 5
"""One in so many of the canary's answers is slow."""


def _line(metric: str, labels: Labels, value: int) -> str:
    inner = ",".join(f'{name}="{text}"' for name, text in labels.items())
    return f"{metric}{{{inner}}} {value}\n"


def _histogram(
    metric: str, labels: Labels, count: int, slow: int, bounds: Sequence[tuple[str, bool]]
) -> Iterator[str]:
    """Each bound with whether it takes in the slow ones."""
    for bound, all_of_them in bounds:
        yield _line(f"{metric}_bucket", {**labels, "le": bound}, count - slow * (not all_of_them))
    yield _line(f"{metric}_count", labels, count)


Row = tuple[tuple[str, str], str, str, str, int, int]

ISTIO_ROWS: Sequence[Row] = (
    # Service, response_code, grpc_response_status, response_flags, before, between.
    (STABLE, "200", "", "-", 100, 90),
    (STABLE, "404", "", "-", 2, 3),
    (STABLE, "500", "", "-", 1, 2),
    (STABLE, "503", "", "UF,URX", 0, 1),
    (STABLE, "0", "", "DC", 1, 4),
    (CANARY, "200", "", "-", 10, 30),
    (CANARY, "503", "", "-", 1, 6),
    (CANARY, "200", "", "UC", 0, 1),
    (CANARY, "0", "", "DC", 0, 2),
    (CANARY, "200", "0", "-", 5, 8),
    (CANARY, "200", "14", "-", 0, 3),
    (CANARY, "200", "5", "-", 0, 2),
    (NAMESAKE, "200", "", "-", 3, 7),
)

_ISTIO_BOUNDS = (("5", False), ("25", False), ("250", False), ("1000", True), ("+Inf", True))


def _istio_labels(reporter: str, row: Row) -> dict[str, str]:
    (space, name), code, grpc, flags, _, _ = row
    return {
        "reporter": reporter,
        "source_workload": "web-istio",
        "source_canonical_service": "web-istio",
        "source_canonical_revision": "latest",
        "source_workload_namespace": "infra",
        "source_principal": "spiffe://cluster.local/ns/infra/sa/web-istio",
        "source_app": "unknown",
        "source_version": "unknown",
        "source_cluster": "Kubernetes",
        # Both versions belong to one application; the workload is the Deployment.
        "destination_workload": name,
        "destination_workload_namespace": space,
        "destination_principal": f"spiffe://cluster.local/ns/{space}/sa/default",
        "destination_app": "checkout",
        "destination_version": "unknown",
        "destination_service": f"{name}.{space}.svc.cluster.local",
        "destination_canonical_service": "checkout",
        "destination_canonical_revision": "latest",
        "destination_service_name": name,
        "destination_service_namespace": space,
        "destination_cluster": "Kubernetes",
        "request_protocol": "grpc" if grpc else "http",
        "response_code": code,
        "grpc_response_status": grpc,
        "response_flags": flags,
        "connection_security_policy": "unknown" if reporter == "source" else "mutual_tls",
    }


def istio(reporter: str, number: int) -> str:
    """What a proxy tells that reports so, at the first or the second scrape."""
    counter, histogram = "istio_requests_total", "istio_request_duration_milliseconds"
    text = [f"# TYPE {counter} counter\n", f"# TYPE {histogram} histogram\n"]
    for row in ISTIO_ROWS:
        where, _, _, flags, before, between = row
        count = before + between * (number - 1)
        # Who is never reached has nothing to tell.
        if not count or (reporter == "destination" and "UF" in flags):
            continue
        labels = _istio_labels(reporter, row)
        slow = count // SLOW if where == CANARY else 0
        text.append(_line(counter, labels, count))
        text.extend(_histogram(histogram, labels, count, slow, _ISTIO_BOUNDS))
    return "".join(text)


Backend = tuple[tuple[str, str], str, str, int, int]

LINKERD_HTTP: Sequence[Backend] = (
    # Service, http_status, error, before, between.
    (STABLE, "200", "", 50, 80),
    (STABLE, "404", "", 0, 3),
    (STABLE, "500", "", 1, 2),
    (STABLE, "", "CANCEL", 0, 2),
    (CANARY, "200", "", 5, 20),
    (CANARY, "503", "", 0, 4),
    (CANARY, "", "FAIL_FAST", 0, 2),
    (CANARY, "", "UNKNOWN", 0, 1),
    (CANARY, "200", "RESET", 0, 1),
    (CANARY, "200", "UNKNOWN", 0, 1),
    (NAMESAKE, "200", "", 2, 6),
)

LINKERD_GRPC: Sequence[Backend] = (
    # Service, grpc_status, error, before, between.
    (STABLE, "OK", "", 50, 60),
    (STABLE, "NOT_FOUND", "", 0, 5),
    (STABLE, "INTERNAL", "", 1, 2),
    (CANARY, "OK", "", 5, 20),
    (CANARY, "UNAVAILABLE", "", 0, 4),
    (CANARY, "UNKNOWN", "FAIL_FAST", 0, 2),
    (CANARY, "CANCELLED", "", 0, 3),
)

_LINKERD_BOUNDS = (
    *((bound, False) for bound in ("0.025", "0.05", "0.1", "0.25")),
    *((bound, True) for bound in ("0.5", "1.0", "10.0", "+Inf")),
)


def _linkerd_labels(kind: str, where: tuple[str, str], of: str = "Service") -> dict[str, str]:
    space, name = where
    parent = {"group": "core", "kind": "Service", "namespace": space, "name": "checkout-all"}
    route = {"group": "gateway.networking.k8s.io", "kind": kind, "namespace": space, "name": "all"}
    backend = {"group": "core", "kind": of, "namespace": space, "name": name}
    return {
        **{f"parent_{key}": text for key, text in parent.items()},
        "parent_port": "80",
        "parent_section_name": "",
        **{f"route_{key}": text for key, text in route.items()},
        **{f"backend_{key}": text for key, text in backend.items()},
        "backend_port": "80",
        "backend_section_name": "",
    }


def linkerd(protocol: str, number: int) -> str:
    """What a caller's proxy tells of HTTPRoutes (`http`) or GRPCRoutes (`grpc`)."""
    rows = LINKERD_HTTP if protocol == "http" else LINKERD_GRPC
    kind = f"{protocol.upper()}Route"
    metric = f"outbound_{protocol}_route_backend_response"
    text = [f"# TYPE {metric}_statuses counter\n"]
    sums: dict[tuple[str, str], int] = {}
    for where, status, error, before, between in rows:
        count = before + between * (number - 1)
        if count:
            sums[where] = sums.get(where, 0) + count
            labels = {**_linkerd_labels(kind, where), f"{protocol}_status": status, "error": error}
            text.append(_line(f"{metric}_statuses_total", labels, count))
    # Of the same name, and no Service.
    other = {**_linkerd_labels(kind, STABLE, "EgressNetwork"), f"{protocol}_status": "200"}
    text.append(_line(f"{metric}_statuses_total", {**other, "error": ""}, 9 * number))
    text.append(f"# TYPE {metric}_duration_seconds histogram\n")
    for where, count in sums.items():
        slow = count // SLOW if where == CANARY else 0
        labels = _linkerd_labels(kind, where)
        text.extend(_histogram(f"{metric}_duration_seconds", labels, count, slow, _LINKERD_BOUNDS))
    return "".join(text)
