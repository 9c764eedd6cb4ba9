# SPDX-License-Identifier: Apache-2.0
"""Words that do not belong: open ends, paths of one machine, hosts of registries.

The patterns are put together from halves, so that this file passes its own test.
"""

import re

from tests.tidy.tree import ROOT, files, sources

_WORDS = re.compile(
    "|".join(
        (
            r"\bTO" + r"DO\b",
            r"\bFIX" + r"ME\b",
            r"NotImplemented" + r"Error",
            r"pytest\.mark\." + r"(skip|skipif|xfail)\b",
            r"time\." + r"sleep\(",
            r"(?<![\w.~])/(work|root|home|tm" + r"p)/[a-z]",
            r"pythonhosted\." + r"org|\bpypi\." + r"org",
        )
    )
)


def _texts() -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in files():
        try:
            texts[path] = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # Not a text, so it has no words.
    return texts


def test_no_word_that_does_not_belong() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in _texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if _WORDS.search(line)
    ]
    assert found == []


def test_the_pattern_finds_what_it_should() -> None:
    assert _WORDS.search("# TO" + "DO: later")
    assert _WORDS.search('open("/ro' + 'ot/x")')
    assert not _WORDS.search("/var/run/secrets")


def test_every_source_names_its_licence_first() -> None:
    found = [
        source.path
        for source in sources("controller") + sources("tests")
        # An empty __init__.py has nothing to license.
        if source.text and not source.text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    ]
    assert found == []
