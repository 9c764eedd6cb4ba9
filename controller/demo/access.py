# SPDX-License-Identifier: Apache-2.0
"""How a cluster of the user's is reached: by the kubeconfig and the context that they name."""

import ssl
from dataclasses import dataclass
from typing import Any

import httpx
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import load_kube_config
from kubernetes.aio.config.kube_config import list_kube_config_contexts

from controller.demo.api import CALL_SECONDS, Api
from controller.demo.errors import DemoError


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What was named."""

    kubeconfig: str | None = None
    """Path; None for where kubectl looks."""
    context: str | None = None
    """None for the current one of the file."""

    @property
    def named(self) -> bool:
        """Whether anything was."""
        return self.kubeconfig is not None or self.context is not None

    def current(self) -> str:
        """The name of the context that is meant; raises DemoError if there is none."""
        if self.context is not None:
            return self.context
        try:
            return str(list_kube_config_contexts(self.kubeconfig)[1]["name"])  # type: ignore[no-untyped-call]
        except Exception as error:
            raise self._unusable(error) from error

    async def connect(self) -> Api:
        """A client with the user's own credentials; raises DemoError if they are unusable."""
        configuration = Configuration()
        try:
            await load_kube_config(  # type: ignore[no-untyped-call]
                self.kubeconfig, self.context, configuration, persist_config=False
            )
            return Api(configuration.host, _client(configuration))
        except Exception as error:
            # The loader raises whatever a file that is no kubeconfig leads it to.
            raise self._unusable(error) from error

    def options(self) -> tuple[str, ...]:
        """The same for the daemon, as options."""
        return (
            *(("--kubeconfig", self.kubeconfig) if self.kubeconfig is not None else ()),
            *(("--context", self.context) if self.context is not None else ()),
        )

    def _unusable(self, error: Exception) -> DemoError:
        where = self.kubeconfig or "the kubeconfig that kubectl uses"
        words = " ".join(str(error).split())
        return DemoError(f"{where} cannot be used: {type(error).__name__}: {words}")


def _client(configuration: Configuration) -> httpx.AsyncClient:
    token = configuration.api_key.get("BearerToken")
    name = configuration.tls_server_name

    async def known_as(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = name

    hooks: dict[str, list[Any]] = {"request": [known_as] if name else []}
    return httpx.AsyncClient(
        base_url=configuration.host,
        timeout=CALL_SECONDS,
        trust_env=False,
        headers={"Authorization": token} if token else {},
        verify=_tls(configuration),
        proxy=configuration.proxy,
        event_hooks=hooks,
    )


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        # The user's own kubeconfig says so (insecure-skip-tls-verify).
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context
