# SPDX-License-Identifier: Apache-2.0
"""The checkout as the tidiness tests see it: which files there are, parsed once.

Files are found by walking and not by asking git, so that a file counts before it is committed and
an unpacked source archive can be tested as well.
"""

import ast
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Folders that tools or the demo make; none of their content is ours.
_NOT_OURS = {"__pycache__", "build", "dist", "htmlcov"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One Python file: where it is, what it says and how it parses."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name under which the file is imported."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


@functools.cache
def files() -> tuple[str, ...]:
    """Paths of all files that belong to the project, relative to its root."""
    found: list[str] = []
    for folder, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in _NOT_OURS and _kept(name)]
        here = Path(folder).relative_to(ROOT)
        found.extend(str(here / name) for name in names if _kept(name))
    return tuple(sorted(found))


def _kept(name: str) -> bool:
    return not name.startswith(".") or name in {".ci", ".gitignore", ".dockerignore"}


@functools.cache
def sources(under: str) -> tuple[Source, ...]:
    """Every Python file below the folder `under`."""
    return tuple(
        Source(path=path, text=text, tree=ast.parse(text, filename=path))
        for path in files()
        if path.startswith(f"{under}/") and path.endswith(".py")
        for text in [(ROOT / path).read_text(encoding="utf-8")]
    )
