# SPDX-License-Identifier: Apache-2.0
"""The commands that `docs/` prints, typed word for word into a shell."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.realtime import ROOT


def blocks(*names: str) -> str:
    """Blocks of commands of the runbook, after the function that all of them may call."""
    return "\n".join(block(name) for name in ("share", *names))


def block(name: str, page: str = "runbook.md") -> str:
    """A block of commands or of a manifest, by the comment that stands before it."""
    text = (ROOT / "docs" / page).read_text()
    found = re.search(rf"<!-- tested: {name} -->\n```(?:(?:ba)?sh|yaml)\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"{page} has no block {name!r}"
    return found.group(1)


async def typed(
    commands: str,
    kubeconfig: Path,
    names: Mapping[str, str],
    within: float = 60.0,
    *,
    folder: Path = ROOT,
    programs: Path | None = None,
) -> None:
    """Type commands into a shell that has these variables; they must all succeed.

    `folder`: where they are typed. `programs`: a folder of programs that it has besides.
    """
    beside = Path(sys.executable).parent
    path = os.pathsep.join((*map(str, filter(None, (programs, beside))), os.environ["PATH"]))
    assert shutil.which("kubectl", path=path), "kubectl comes with the extra `demo`"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", commands,
        env={**names, "PATH": path, "KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        cwd=folder,
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
