# SPDX-License-Identifier: Apache-2.0
"""The commands of `docs/runbook.md`, typed word for word into a shell."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.realtime import ROOT


def blocks(*names: str) -> str:
    """Blocks of commands, after the function that all of them may call."""
    return "\n".join(_block(name) for name in ("share", *names))


def _block(name: str) -> str:
    """A block of commands of the runbook, by the comment that stands before it."""
    text = (ROOT / "docs" / "runbook.md").read_text()
    found = re.search(rf"<!-- tested: {name} -->\n```bash\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"the runbook has no block {name!r}"
    return found.group(1)


async def typed(
    commands: str, kubeconfig: Path, names: Mapping[str, str], within: float = 60.0
) -> None:
    """Type commands into a shell that has these variables; they must all succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert shutil.which("kubectl", path=path), "kubectl comes with the extra `demo`"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", commands,
        env={**names, "PATH": path, "KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), within)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
