# SPDX-License-Identifier: Apache-2.0
"""Programs are found where they should be, and their absence is one clear message."""

from pathlib import Path

import pytest

from controller.demo import binaries
from controller.demo.errors import DemoError


def program(folder: Path, name: str, text: str = "#!/bin/sh\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return file


def test_the_program_named_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program(tmp_path / "path", "prometheus").parent))
    named = program(tmp_path / "named", "my-prometheus")
    assert binaries.find_prometheus(named) == named


@pytest.mark.parametrize("what", ["missing", "folder", "text"])
def test_a_name_that_cannot_be_run_is_refused(tmp_path: Path, what: str) -> None:
    named = tmp_path / what
    if what == "folder":
        named.mkdir()
    if what == "text":
        named.write_text("hello", encoding="utf-8")
    with pytest.raises(DemoError, match="--prometheus-bin"):
        binaries.find_prometheus(named)


def test_path_comes_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program(tmp_path / "path", "prometheus")
    cached = program(tmp_path / "cache" / "usr" / "bin", "prometheus")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert binaries.find_prometheus(folder=tmp_path / "cache") == on_path
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert binaries.find_prometheus(folder=tmp_path / "cache") == cached


def test_without_a_package_manager_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoError) as caught:
        binaries.find_prometheus(folder=tmp_path / "cache")
    assert "--prometheus-bin FILE" in str(caught.value)
    assert "prometheus.io/download" in str(caught.value)


APT = """#!/bin/sh
# Stands for apt-get; its first download fails where `private` asks for it.
case "$*" in
  *update*) exit 0;;
  *Dir::State*download*|{always}) : > prometheus_1_all.deb; exit 0;;
esac
echo "E: Unable to locate package" >&2; exit 100
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin" && printf '#!/bin/sh\\n' > "$3/usr/bin/prometheus"
chmod 755 "$3/usr/bin/prometheus"
"""


@pytest.mark.parametrize("always", ["*download*", "never"], ids=["own lists", "private lists"])
def test_the_package_is_unpacked_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: str
) -> None:
    tools = program(tmp_path / "tools", "apt-get", APT.format(always=always)).parent
    program(tools, "dpkg-deb", DPKG)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    cache = tmp_path / "cache" / "prometheus"
    found = binaries.find_prometheus(folder=cache)
    assert found == cache / "usr" / "bin" / "prometheus"
    assert [path.name for path in cache.parent.iterdir()] == ["prometheus"]


def test_a_failed_download_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = program(tmp_path / "tools", "apt-get", "#!/bin/sh\necho no network; exit 100\n").parent
    program(tools, "dpkg-deb", DPKG)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(DemoError, match="no network"):
        binaries.find_prometheus(folder=tmp_path / "cache" / "prometheus")
    assert list((tmp_path / "cache").iterdir()) == []
