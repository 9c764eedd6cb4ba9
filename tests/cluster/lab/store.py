# SPDX-License-Identifier: Apache-2.0
"""etcd, past the API server."""

import base64

import httpx

from tests.cluster.lab import addresses

CALL_SECONDS = 10.0


async def forget(version: str) -> None:
    """Compact everything before a resourceVersion.

    The key is the one by which API servers tell each other that they have compacted; without it
    they would go on answering from what they remember, for minutes.
    """
    key, value = (base64.b64encode(text.encode()).decode() for text in ("compact_rev_key", version))
    async with httpx.AsyncClient(
        base_url=addresses.ETCD, trust_env=False, timeout=CALL_SECONDS
    ) as http:
        for path, body in (
            ("/v3/kv/put", {"key": key, "value": value}),
            ("/v3/kv/compaction", {"revision": version}),
        ):
            (await http.post(path, json=body)).raise_for_status()
