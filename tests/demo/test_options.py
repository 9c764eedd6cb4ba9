# SPDX-License-Identifier: Apache-2.0
"""A real cluster is used only where somebody named it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from controller.demo.command import command

CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "production",
    "contexts": [{"name": "production", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return file


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.slow
async def test_the_current_context_is_not_enough(config: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", "demo", "--on-cluster"),
        env={**os.environ, "KUBECONFIG": str(config)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, text = await process.communicate()
    assert process.returncode == 2
    assert "say so: --context production" in " ".join(text.decode().split())


@pytest.mark.parametrize(
    "option",
    ["--gateway=a/b", "--gateway-address=a:1", "--prometheus=http://a", "--image=a"],
)
def test_what_is_for_a_cluster_needs_one(option: str) -> None:
    status, text = said(option)
    assert status == 2
    assert f"{option.partition('=')[0]}: only for a real cluster" in text


def test_a_named_cluster_that_is_away_is_told_with_all_that_is_missing(config: Path) -> None:
    status, text = said("--kubeconfig", str(config))
    assert status == 1
    for missing in ("(production)", "--prometheus URL", "--image NAME", "does not answer"):
        assert missing in text


def test_a_kubeconfig_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("nothing", encoding="utf-8")
    status, text = said("--kubeconfig", str(file), "--image=a", "--prometheus=http://127.0.0.1:1")
    assert status == 1
    assert f"{file} cannot be used" in text
