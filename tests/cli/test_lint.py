# SPDX-License-Identifier: Apache-2.0
"""`switchgear lint` as a person or a pipeline meets it: output and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import COMMANDS, main

GOOD = """
kind: Deployment
metadata: {name: checkout, namespace: shop, annotations: {switchgear.dev/policy: standard}}
spec:
  replicas: 4
  template: {metadata: {labels: {app: checkout}}}
---
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {selector: {app: checkout}}
---
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {rules: [{backendRefs: [{name: checkout}]}]}
"""
BAD = GOOD.replace("standard", "standart").replace("replicas: 4", "strategy: {type: Recreate}")


def lint(*arguments: str, text: str = GOOD) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["lint", *arguments], input=text)
    return result.exit_code, result.stdout, result.stderr


def test_clean_manifests_leave_with_0() -> None:
    assert lint("-") == (0, "no problems in shop/checkout\n", "")


def test_problems_leave_with_1_and_say_what_to_write() -> None:
    code, out, _ = lint("-", text=BAD)
    assert code == 1
    assert out.startswith("shop/checkout: policy: 'standart' is not known (write one of standard,")
    assert out.endswith("[ValueInvalid]\n")


def test_limits_of_latency_that_nobody_would_judge_are_refused() -> None:
    many = "{switchgear.dev/policy: standard, switchgear.dev/latency: 'p50<1s,p90<2s,p95<3s,p99<4s'"
    code, out, _ = lint("-", text=GOOD.replace("{switchgear.dev/policy: standard", many))
    assert code == 1
    assert out.startswith(
        "shop/checkout: latency: there are 4 limits of latency, and 3 can be judged (keep at most 3"
    )
    assert out.endswith("[LatencyLimitsTooMany]\n")


def test_json_says_the_same_for_programs() -> None:
    code, out, _ = lint("-", "-o", "json", text=BAD)
    told = json.loads(out)
    assert code == 1
    assert told["targets"] == ["shop/checkout"]
    (problem,) = told["problems"]
    assert (problem["object"], problem["key"]) == ("shop/checkout", "policy")
    assert problem["code"] == "ValueInvalid"


def test_observe_is_in_order_and_said_to_judge_nothing() -> None:
    code, out, err = lint("-", text=GOOD.replace("standard", "observe"))
    assert (code, out) == (0, "no problems in shop/checkout\n")
    assert "shop/checkout: under the policy observe a change rolls natively" in err
    told = json.loads(lint("-", "-o", "json", text=GOOD.replace("standard", "observe"))[1])
    assert (told["problems"], len(told["notes"])) == ([], 1)


def test_manifests_in_json_are_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "deployment.json"
    file.write_text(
        json.dumps(
            {
                "kind": "Deployment",
                "metadata": {"name": "web", "annotations": {"switchgear.dev/policy": "fast"}},
            }
        )
    )
    code, out, err = lint(str(file))
    assert (code, out) == (0, "no problems in default/web\n")
    assert err == "not checked, since the files have none: Services, HTTPRoutes and GRPCRoutes\n"
    assert lint(str(file), "--complete")[0] == 1


def test_several_files_are_one_world(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.yaml" for n in range(3)]
    for file, text in zip(files, GOOD.split("---"), strict=True):
        file.write_text(text)
    assert lint("--complete", *map(str, files))[0] == 0


def test_files_without_a_target_are_no_fault() -> None:
    assert lint("-", text="kind: Service\n") == (
        0,
        "",
        "no Deployment in the files asks for canaries\n",
    )


@pytest.mark.slow
def test_what_cannot_be_read_leaves_with_2() -> None:
    for text in ("a: [", "when: 2020-13-45", "[" * 20_000, "a: *nobody"):
        code, _, err = lint("-", text=text)
        assert code == 2, text[:20]
        assert "neither YAML nor JSON" in err
    assert lint("no-such-file.yaml")[0] == 2
    assert lint()[0] == 2
    assert lint("-", "--scrape-interval", "often")[0] == 2


def test_help_lists_every_command_without_importing_one() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from controller.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "print([name for name in sys.modules if name.startswith('controller.cli.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_every_command_of_the_table_exists() -> None:
    for name in COMMANDS:
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0, name
    assert CliRunner().invoke(main, ["kil"]).exit_code == 2
