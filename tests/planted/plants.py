# SPDX-License-Identifier: Apache-2.0
"""Bugs that we plant in a copy of our own code, and the tests that must catch each of them.

Each is a mistake that has really been made in this field. A plant whose text is no longer found
fails its test as well: the net must be mended together with what it protects.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """One bug: in `file`, `right` becomes `wrong`; `tests` must fail then."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


PLANTS = (
    Plant(
        name="latch read before the route",
        file="controller/engine/act.py",
        right="""        routes: list[Route] = []
        if isinstance(effect, RaiseWeight):
            refs = list(dict.fromkeys(split.route for split in effect.splits))
            names = [name for split in effect.splits for name in (split.service, split.canary)]
            routes = await self._cluster.read_routes(refs, names)
        latches = await self._documents.latches()
""",
        wrong="""        latches = await self._documents.latches()
        routes: list[Route] = []
        if isinstance(effect, RaiseWeight):
            refs = list(dict.fromkeys(split.route for split in effect.splits))
            names = [name for split in effect.splits for name in (split.service, split.canary)]
            routes = await self._cluster.read_routes(refs, names)
""",
        tests=("tests/engine/test_kill_protocol.py",),
    ),
)
