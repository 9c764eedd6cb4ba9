# SPDX-License-Identifier: Apache-2.0
"""What import-linter cannot see: purity inside a function, and files nobody uses.

The direction of imports itself is written down once, in pyproject.toml, and not repeated here;
only the two rules about `sim` are, because they must hold from the first file of that folder on.
"""

import ast
from collections.abc import Iterator

from controller.cli import COMMANDS
from tests.tidy.tree import Source, sources

IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}


def imports(source: Source) -> Iterator[str]:
    """Dotted names that a file imports, including `from package import module`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_core_neither_waits_nor_does_io() -> None:
    found = [
        f"{source.path}:{node.lineno}"
        for source in sources("controller/core")
        for node in ast.walk(source.tree)
        if isinstance(
            node,
            ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Global,
        )
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in IMPURE_CALLS
        )
    ]
    assert found == []


def test_sim_is_a_world_of_its_own() -> None:
    """A piece shared with the product would carry the same bug to both sides of a test."""
    found = [
        f"{source.path} imports {name}"
        for source in sources("controller/sim")
        for name in imports(source)
        if _below(name, "controller") and not _below(name, "controller.sim")
        if name != "controller"
    ]
    assert found == []


def test_only_the_demo_imports_sim() -> None:
    found = [
        f"{source.path} imports {name}"
        for source in sources("controller")
        if not source.path.startswith(("controller/sim/", "controller/demo/"))
        for name in imports(source)
        if _below(name, "controller.sim")
    ]
    assert found == []


def test_every_file_is_used_by_another() -> None:
    """A module that nothing in the product imports is dead, however well it is tested.

    Only `sim` is there for tests as much as for the demo.
    """
    used = {entry.module for entry in COMMANDS.values()} | {"controller.__main__"}
    used |= {
        name
        for source in sources("tests")
        for name in imports(source)
        if _below(name, "controller.sim")
    }
    used |= {name for source in sources("controller") for name in imports(source)}
    unused = [
        source.path
        for source in sources("controller")
        if source.module not in used
        and not source.path.endswith("/__init__.py")
        # A module that is started as a process of its own says so.
        and '__name__ == "__main__"' not in source.text
    ]
    assert unused == []
