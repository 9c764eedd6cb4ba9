# SPDX-License-Identifier: Apache-2.0
"""How each part of the lab is started, and how one knows that it is ready."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from controller.demo.process import Child
from tests.cluster.lab import addresses, manifests, toolchain
from tests.cluster.lab.api import SERVER, Api, until_ready
from tests.cluster.lab.build import Programs

READY_SECONDS = 120.0
"""Alone the slowest part takes five; two labs and a build on two cores make it four times that."""

PROBE_SECONDS = 2.0

CONTROLLERS: Final = (
    "deployment-controller",
    "replicaset-controller",
    "endpointslice-controller",
    "endpoints-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "job-controller",
    "disruption-controller",
    "horizontal-pod-autoscaler-controller",
    "resourcequota-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
)

AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: Request
  verbs: [create, update, patch]
  resources:
  - {group: apps, resources: [deployments]}
  - {group: "", resources: [services]}
  - {group: gateway.networking.k8s.io, resources: [httproutes, grpcroutes]}
- level: Request
  verbs: [patch, delete]
  resources: [{group: apps, resources: [replicasets]}]
- level: Metadata
"""
"""Of writes to what a run moves it shows the body too: tests ask what such a write touched."""


async def etcd(programs: Programs, folder: Path) -> Child:
    """The store; it need not survive the machine."""
    return await Child.start(
        "etcd",
        (
            *(programs.controlplane, "etcd"),
            *("--data-dir", folder / "etcd"),
            "--unsafe-no-fsync",
            *("--listen-client-urls", addresses.ETCD),
            *("--advertise-client-urls", addresses.ETCD),
            *("--listen-peer-urls", "http://127.0.0.1:2380"),
            *("--log-level", "warn"),
        ),
        log=folder / "etcd.log",
    )


def _emulated(version: str) -> tuple[str, ...]:
    """What makes a part behave as that minor version of Kubernetes did; as itself by default."""
    return (f"--emulated-version={version}",) if version else ()


async def api_server(programs: Programs, folder: Path, emulates: str = "") -> Child:
    """The API server with RBAC, an audit log and an aggregation layer."""
    pki = folder / "pki"
    policy = folder / "audit-policy.yaml"
    policy.write_text(AUDIT_POLICY, encoding="utf-8")
    return await Child.start(
        "kube-apiserver",
        (
            *(programs.controlplane, "kube-apiserver"),
            f"--etcd-servers={addresses.ETCD}",
            "--bind-address=0.0.0.0",
            "--secure-port=6443",
            f"--advertise-address={addresses.ADVERTISED}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--service-account-key-file={pki / 'accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--enable-aggregator-routing=true",
            f"--requestheader-client-ca-file={pki / 'ca.crt'}",
            "--requestheader-allowed-names=aggregator",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki / 'aggregator.crt'}",
            f"--proxy-client-key-file={pki / 'aggregator.key'}",
            f"--audit-log-path={folder / 'audit.log'}",
            f"--audit-policy-file={policy}",
            *_emulated(emulates),
        ),
        log=folder / "kube-apiserver.log",
    )


async def controllers(programs: Programs, folder: Path, emulates: str = "") -> Child:
    """The controllers that a namespaced application meets."""
    pki = folder / "pki"
    return await Child.start(
        "kube-controller-manager",
        (
            *(programs.controlplane, "kube-controller-manager"),
            f"--kubeconfig={pki / 'controllers.kubeconfig'}",
            f"--service-account-private-key-file={pki / 'accounts.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            f"--controllers={','.join(CONTROLLERS)}",
            # Autoscalers look every 15 s by default, and wait five minutes before they scale down.
            "--horizontal-pod-autoscaler-sync-period=2s",
            "--horizontal-pod-autoscaler-downscale-stabilization=10s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=5s",
            *_emulated(emulates),
        ),
        log=folder / "kube-controller-manager.log",
    )


async def kubelet(folder: Path) -> Child:
    """The kubelet for tests."""
    pods = folder / "pods"
    pods.mkdir()
    command = (sys.executable, "-m", "tests.cluster.lab.kubelet", folder / "pki", pods)
    return await Child.start("kubelet", command, log=folder / "kubelet.log")


async def measures(folder: Path) -> Child:
    """The metrics APIs for autoscalers; the API server finds them when they are there."""
    command = (sys.executable, "-m", "tests.cluster.lab.measures", folder / "pki")
    return await Child.start("measures", command, log=folder / "measures.log")


async def traefik(programs: Programs, folder: Path, token: str) -> Child:
    """Traefik as implementation of the Gateway API, as its chart would run it."""
    child = await Child.start(
        "traefik",
        (
            programs.traefik,
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            "--log.level=INFO",
            f"--entrypoints.web.address=:{addresses.TRAEFIK_PORT}",
            f"--entrypoints.metrics.address={addresses.TRAEFIK_METRICS}",
            "--ping=true",
            "--ping.entrypoint=metrics",
            "--metrics.prometheus=true",
            "--metrics.prometheus.entrypoint=metrics",
            "--metrics.prometheus.addserviceslabels=true",
            "--providers.kubernetesgateway=true",
            f"--providers.kubernetesgateway.endpoint={SERVER}",
            f"--providers.kubernetesgateway.token={token}",
            f"--providers.kubernetesgateway.certauthfilepath={folder / 'pki' / 'ca.crt'}",
        ),
        log=folder / "traefik.log",
    )
    await answers(child, f"http://{addresses.TRAEFIK_METRICS}/ping")
    return child


async def contour(programs: Programs, folder: Path, kubeconfig: Path) -> Child:
    """The control plane of Envoy."""
    config = folder / "contour.yaml"
    reference = {"name": "envoy", "namespace": manifests.SYSTEM}
    config.write_text(json.dumps({"gateway": {"gatewayRef": reference}}), encoding="utf-8")
    child = await Child.start(
        "contour",
        (
            *(programs.contour, "serve"),
            "--insecure",
            "--disable-leader-election",
            f"--config-path={config}",
            f"--kubeconfig={kubeconfig}",
            *_listens("xds", addresses.CONTOUR_XDS),
            *_listens("http", addresses.CONTOUR_HTTP),
            *_listens("health", addresses.CONTOUR_HEALTH),
            *_listens("stats", addresses.ENVOY_METRICS.split(":")),
        ),
        log=folder / "contour.log",
    )
    await answers(child, f"http://{':'.join(addresses.CONTOUR_HEALTH)}/healthz")
    return child


def _listens(what: str, address: Sequence[str]) -> tuple[str, str]:
    host, port = address
    return f"--{what}-address={host}", f"--{what}-port={port}"


async def envoy(programs: Programs, folder: Path) -> Child:
    """The proxy itself, which learns everything from Contour."""
    bootstrap = folder / "envoy.json"
    await asyncio.to_thread(
        toolchain.run,
        *(programs.contour, "bootstrap", bootstrap),
        *_listens("xds", addresses.CONTOUR_XDS),
        *("--admin-address", folder / "envoy.admin"),
        seconds=READY_SECONDS,
    )
    child = await Child.start(
        "envoy",
        (
            programs.envoy,
            *("-c", bootstrap),
            *("--service-cluster", manifests.SYSTEM),
            *("--service-node", "lab"),
            *("--concurrency", "1"),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ),
        log=folder / "envoy.log",
    )
    await answers(child, f"http://{addresses.ENVOY_METRICS}/stats/prometheus")
    return child


async def prometheus(programs: Programs, folder: Path) -> Child:
    """Prometheus with a scrape each second."""
    config = folder / "prometheus.yml"
    targets = str(folder / "pods" / "targets.json")
    config.write_text(manifests.prometheus(targets), encoding="utf-8")
    child = await Child.start(
        "prometheus",
        (
            programs.prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={addresses.PROMETHEUS}",
            "--log.level=warn",
        ),
        log=folder / "prometheus.log",
    )
    await answers(child, f"http://{addresses.PROMETHEUS}/-/ready")
    return child


async def serves(child: Child, api: Api) -> None:
    """Wait for the API server; raises DemoError with its last words if it ends instead."""

    async def probe() -> bool:
        try:
            await until_ready(api, "/readyz", PROBE_SECONDS)
        except TimeoutError:
            return False
        return True

    await child.until(probe, READY_SECONDS)


async def answers(child: Child, url: str, headers: Mapping[str, str] | None = None) -> None:
    """Wait until a door answers with 200; raises DemoError."""
    async with httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False) as http:

        async def probe() -> bool:
            try:
                return (await http.get(url, headers=headers)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

        await child.until(probe, READY_SECONDS)
