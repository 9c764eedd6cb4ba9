# SPDX-License-Identifier: Apache-2.0
"""A pod's volumes as folders of this machine, kept up to date while the pod runs."""

import base64
from pathlib import Path

from tests.cluster.lab.api import Api, Object
from tests.cluster.lab.kubelet import environment


class Volumes:
    """All volumes of one pod."""

    def __init__(self, api: Api, pod: Object, folder: Path, address: str) -> None:
        self._api = api
        self._pod = pod
        self._folder = folder
        self._address = address
        self._namespace = pod["metadata"]["namespace"]

    async def write(self) -> None:
        """Write everything anew; raises environment.NotThere."""
        for volume in self._pod["spec"].get("volumes", ()):
            folder = self._folder / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            for path, content in (await self._content(volume)).items():
                _replace(folder / path, content)

    def mounts(self, container: Object) -> list[tuple[str, str, bool]]:
        """Source, target and read-only of each mount of a container."""
        return [
            (
                str(self._folder / mount["name"] / mount.get("subPath", "")),
                mount["mountPath"],
                bool(mount.get("readOnly")),
            )
            for mount in container.get("volumeMounts", ())
        ]

    async def read(self, kind: str, name: str) -> Object | None:
        """A ConfigMap or a Secret, whose values are decoded."""
        reply = await self._api.call("GET", f"/api/v1/namespaces/{self._namespace}/{kind}/{name}")
        if not reply.fine:
            return None
        if kind == "secrets":
            data = reply.body.get("data") or {}
            reply.body["data"] = {k: base64.b64decode(v).decode() for k, v in data.items()}
        return reply.body

    async def _content(self, volume: Object) -> dict[str, str]:
        if "projected" in volume:
            found: dict[str, str] = {}
            for source in volume["projected"]["sources"]:
                found.update(await self._source(source))
            return found
        if "configMap" in volume:
            return await self._keys("configmaps", volume["configMap"]["name"], volume["configMap"])
        if "secret" in volume:
            return await self._keys("secrets", volume["secret"]["secretName"], volume["secret"])
        if "downwardAPI" in volume:
            return self._fields(volume["downwardAPI"])
        return {}  # emptyDir

    async def _source(self, source: Object) -> dict[str, str]:
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            return {wanted["path"]: await self._token(wanted)}
        if "configMap" in source:
            return await self._keys("configmaps", source["configMap"]["name"], source["configMap"])
        if "secret" in source:
            return await self._keys("secrets", source["secret"]["name"], source["secret"])
        return self._fields(source["downwardAPI"])

    async def _token(self, wanted: Object) -> str:
        account = self._pod["spec"].get("serviceAccountName", "default")
        meta = self._pod["metadata"]
        spec = {
            "expirationSeconds": wanted.get("expirationSeconds", 3600),
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta["name"],
                "uid": meta["uid"],
            },
        }
        if wanted.get("audience"):
            spec["audiences"] = [wanted["audience"]]
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token"
        reply = await self._api.call("POST", path, {"spec": spec})
        if not reply.fine:
            raise environment.NotThere(f"token of {account}: {reply.body.get('message')}")
        return str(reply.body["status"]["token"])

    async def _keys(self, kind: str, name: str, chosen: Object) -> dict[str, str]:
        content = await self.read(kind, name)
        if content is None and not chosen.get("optional"):
            raise environment.NotThere(f"{kind[:-1]} {name} is not there")
        data = (content or {}).get("data") or {}
        items = chosen.get("items") or [{"key": key, "path": key} for key in data]
        return {item["path"]: data[item["key"]] for item in items if item["key"] in data}

    def _fields(self, chosen: Object) -> dict[str, str]:
        return {
            item["path"]: environment.field(self._pod, self._address, item["fieldRef"]["fieldPath"])
            for item in chosen.get("items", ())
        }


def _replace(path: Path, content: str) -> None:
    """Readers see the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(content, encoding="utf-8")
    part.rename(path)
