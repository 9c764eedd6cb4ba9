# SPDX-License-Identifier: Apache-2.0
"""Where each part listens; every lab has a network to itself, so that they are fixed."""

from typing import Final

ETCD: Final = "http://127.0.0.1:2379"

ADVERTISED: Final = "10.77.0.1"
"""Of the API server and of what is aggregated with it, as endpoints have it."""

TRAEFIK_PORT: Final = 8000
TRAEFIK: Final = f"127.0.0.1:{TRAEFIK_PORT}"
TRAEFIK_METRICS: Final = "127.0.0.1:8082"

ENVOY: Final = "127.0.0.1:16100"
"""Contour moves a listener's port by 8000, so that Envoy need not be privileged."""

ENVOY_LISTENER: Final = 8100
ENVOY_METRICS: Final = "127.0.0.1:8002"

CONTOUR_XDS: Final = ("127.0.0.1", "8001")
CONTOUR_HTTP: Final = ("127.0.0.1", "8003")
CONTOUR_HEALTH: Final = ("127.0.0.1", "8004")

PROMETHEUS: Final = "127.0.0.1:9090"

MEASURES_PORT: Final = 6444
