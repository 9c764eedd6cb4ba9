# SPDX-License-Identifier: Apache-2.0
"""`get`, `status` and `explain` with the daemon stopped: the same story as its doors tell."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.room import Room, room, standing, typed


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A run that is being judged at 5 %."""
    with room(standing("Judging"), tmp_path_factory.mktemp("judged")) as found:
        yield found


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A run whose version was bad."""
    world = standing(outcome="rolled-back", ERROR_RATE="0.5")
    with room(world, tmp_path_factory.mktemp("failed")) as found:
        yield found


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """Nothing has ever been rolled out."""
    with room(standing(), tmp_path_factory.mktemp("quiet")) as found:
        yield found


def test_get_lists_what_is_under_way(judged: Room) -> None:
    """One line for each run, with what a person looks for."""
    result = judged.type("get")
    assert result.exit_code == 0
    head, line = result.stdout.splitlines()
    assert head.split() == ["TARGET", "PHASE", "OUTCOME", "WEIGHT", "RUN", "WHY"]
    assert line.startswith("shop/checkout  Judging  -        5 %")
    (run,) = judged.told("get")["runs"]
    assert (run["phase"], run["outcome"], run["weight_bp"]) == ("Judging", None, 500)


def test_get_can_be_narrowed_to_a_namespace(judged: Room) -> None:
    assert len(judged.told("get", "-n", "shop")["runs"]) == 1
    assert judged.told("get", "-n", "elsewhere") == {"runs": []}


def test_get_says_so_when_there_is_nothing(quiet: Room) -> None:
    """And where the ended ones are."""
    result = quiet.type("get")
    assert result.exit_code == 0
    assert "get --all" in result.stdout
    assert quiet.told("get") == {"runs": []}


def test_status_says_where_it_stands_and_what_comes_next(judged: Room) -> None:
    """The target may be written in three ways."""
    texts = {
        judged.type("status", *words).stdout
        for words in (
            ("shop/checkout",),
            ("checkout", "-n", "shop"),
            ("deployment/checkout", "--namespace", "shop"),
        )
    }
    (text,) = texts
    assert text.startswith("shop/checkout: Judging\n")
    assert "weight   5 %  of  [5 %] 25 % 95 %" in text
    assert "switchgear abort shop/checkout" in text


def test_a_run_that_waits_says_for_what_and_until_when(judged: Room) -> None:
    """And as of when, since what is expected was expected from then on."""
    text = judged.type("status", "shop/checkout").stdout
    (why,) = (line for line in text.splitlines() if line.startswith("  why "))
    assert re.search(r"requests, .*; the deadline ends the run in about \d+ (s|min) \(as of ", why)
    reasons = judged.told("status", "shop/checkout")["verdict"]["reasons"]
    assert reasons
    explained = judged.type("explain", "shop/checkout").stdout
    for reason in reasons:
        assert f"  {reason['message']}, {reason['expected']}\n" in explained


def test_status_of_a_failure_has_both_sides(failed: Room) -> None:
    """Counts of both tracks, the evidence, the breaker and what to do."""
    text = failed.type("status", "shop/checkout").stdout
    assert "Held (rolled-back)" in text
    for words in ("canary", "stable", "bad of", "evidence 10^", "breaker  open", "release"):
        assert words in text, words
    run = failed.told("status", "shop/checkout")
    assert run["breaker_open"]
    assert run["verdict"]["canary"]["errors"] > 0


def test_explain_tells_every_record(failed: Room) -> None:
    """Decisions, writes and their outcomes, in order."""
    text = failed.type("explain", "shop/checkout").stdout
    for words in ("begun", "intent", "outcome", "[Judging -> RollingBack]", "weight 0"):
        assert words in text, words
    assert "failed answers: canary " in text
    assert "difference to stable +" in text
    assert "each end with 95.31 % certainty" in text
    assert "limit of the policy, 5 %" in text
    assert "evidence against it by check: errors 10^" in text
    assert "; errors decided" in text
    # Nothing was known of stable's past, which the verdict itself says nothing of.
    assert re.search(r"^  judged with .*; assuming phi = 3 and k = 3", text, re.MULTILINE), text
    run = failed.told("explain", "shop/checkout")
    assert [record["seq"] for record in run["journal"]] == list(range(1, run["records"] + 1))


def test_explain_draws_how_sure_it_was(failed: Room, tmp_path: Path) -> None:
    """As a picture or as a page with it; a place that cannot be written is told in one line."""
    picture, page = tmp_path / "run.svg", tmp_path / "run.html"
    result = failed.type("explain", "shop/checkout", "--svg", str(picture), "--html", str(page))
    assert result.exit_code == 0
    drawn = picture.read_text()
    assert "<polygon" in drawn
    assert "shop/checkout: rolled-back" in drawn
    assert drawn.strip() in page.read_text()
    for option, what in (("--svg", "picture"), ("--html", "page")):
        result = failed.type("explain", "shop/checkout", option, str(tmp_path / "no" / "run"))
        assert result.exit_code == 1
        assert f"the {what} could not be written" in result.stderr


@pytest.mark.parametrize("command", ["status", "explain"])
def test_a_target_without_a_run_is_the_answer_no(quiet: Room, command: str) -> None:
    """Exit 1, and where to look."""
    result = quiet.type(command, "shop/checkout")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: no run of shop/checkout is on record in namespace switchgear; `switchgear get` "
        "lists what is; a sidecar's are in its own namespace: --controller-namespace\n"
    )


@pytest.mark.parametrize("text", ["", "/", "a/b/c", "shop/", "Shop/checkout", "shop/../x", "a b"])
@pytest.mark.parametrize("command", ["status", "kill", "abort", "pause"])
def test_what_is_no_target_is_wrong_usage(quiet: Room, command: str, text: str) -> None:
    """Exit 2, and nothing is done: an empty variable in a script must not name something else."""
    result = quiet.type(command, text)
    assert result.exit_code == 2
    assert "is no target; write namespace/name" in result.stderr
    assert quiet.latched() == {}


READS = [("get",), ("status", "shop/checkout"), ("explain", "shop/checkout"), ("kill",)]
ACTS = [("abort", "shop/checkout"), ("pause", "shop/checkout")]


@pytest.mark.slow
@pytest.mark.parametrize("words", [*READS, *ACTS])
def test_no_cluster_is_one_clear_message(words: tuple[str, ...], tmp_path: Path) -> None:
    """Exit 3: nobody there, no configuration, or a file that is none."""
    gone = tmp_path / "gone"
    config = (
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        'clusters: [{name: a, cluster: {server: "http://127.0.0.1:9"}}]\n'
        "users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
    )
    contents = {
        "dead": config,
        "empty": "",
        "list": "[]",
        "broken": "a: [",
        "number": "contexts: 5",
    }
    files = [gone]
    for name, content in contents.items():
        files.append(tmp_path / name)
        files[-1].write_text(content)
    for file in files if words == ("get",) else files[:2]:
        result = typed(*words, "--kubeconfig", str(file))
        assert result.exit_code == 3, (file, result.output)
        assert result.stderr.startswith("Error: no cluster was reached: ")
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert result.stdout == ""
