"""`harness gate` as people and their CI run it: real runs of two small arms, and what becomes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tiny_support import ROOT, TINY, fixed_text

from harness.cli import main
from harness.gate.baseline import Baseline, SeedRun, noise_path
from harness.gate.noise import Noise

pytestmark = pytest.mark.xdist_group("gate_verb")  # what is run once for all tests is run in one process

GATE = (
    "gate: {first_look: 2, confirm: [11, 12, 13], calibrate: [21], golden_steps: 4, close_steps: 2,\n"
    "  margin: 0.05, alpha: 0.05}\n"
)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of three seeds with an accepted baseline and a calibration; trained once for all tests."""
    folder = tmp_path_factory.mktemp("accepted")
    (folder / "corpus.txt").write_bytes(fixed_text())
    tiny = TINY.replace("seeds: [1, 2]", "seeds: [1, 2, 3]").replace("{limit: 4}", "{tasks: []}")
    (folder / "tiny.yaml").write_text(tiny + GATE)
    words = [str(folder / "tiny.yaml"), "--results", str(folder / "results"), "--baseline", str(folder / "tiny.json")]
    assert main(["gate", *words, "--accept", "--reason", "the first"]) == 0
    assert main(["gate", "calibrate", *words]) == 0
    return folder


@pytest.fixture
def folder(accepted: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil; the runs are shared."""
    for name in ("tiny.yaml", "tiny.json", "tiny.noise.json", "corpus.txt"):
        shutil.copy(accepted / name, tmp_path / name)
    (tmp_path / "results").symlink_to(accepted / "results")
    return tmp_path


def gate(folder: Path, *words: str) -> int:
    place = ["--results", str(folder / "results"), "--baseline", str(folder / "tiny.json")]
    return main(["gate", str(folder / "tiny.yaml"), *place, *words])


def said(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    code = gate(folder, *words, "--json-file", str(folder / "said.json"))
    return code, json.loads((folder / "said.json").read_text())


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "tiny.json"
    Baseline.read(path, "tiny").model_copy(update=changes).write(path)


def test_the_same_code_passes_bit_for_bit_and_says_so_in_every_form(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = folder / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, found = said(folder, "--junit", str(folder / "junit.xml"), "--markdown", str(folder / "report.md"))
    assert code == found["exit_code"] == 0
    assert found["layers"] == {"L0": "pass", "L1": "pass", "L2": "pass", "L3": "not judged"}
    text = capsys.readouterr().out
    assert "## The gate of 'tiny' passes" in text
    assert text.count("4 steps and the held-out loss: equal bit for bit") == 2
    assert (folder / "report.md").read_text() == text
    assert summary.read_text() == f"before\n{text}"
    seeds = [(one["arm"], one["seed"], one["difference"], one["paired"]) for one in found["seeds"]]
    assert seeds == [(arm, seed, 0.0, True) for arm in ("residual", "dhc-n2") for seed in (1, 2)]
    suites = ElementTree.parse(folder / "junit.xml").getroot().findall("testsuite")
    assert [suite.get("failures") for suite in suites] == ["0"] * 4
    assert sum(int(suite.get("tests", 0)) for suite in suites) == len(found["findings"])
    for key in ("alpha", "margin", "trivial", "confirm", "spikes", "seeds", "metric"):
        assert f"{key} " in text.split("Rules:")[1]


def test_a_harm_is_red_in_the_golden_runs_and_again_on_fresh_seeds(folder: Path) -> None:
    code, found = said(folder, "train.lr=1e-5", "--stale-ok")
    assert code == 1
    assert (found["layers"]["L0"], found["layers"]["L2"]) == ("fail", "fail")
    rules = {(one["rule"], one["arm"]): one for one in found["findings"] if one["state"] == "fail"}
    assert rules["settings", "dhc-n2"]["measured"] == "train.lr 0.001 -> 1e-05"
    assert "instead of" in rules["golden losses", "residual"]["measured"]
    assert "found again on fresh seeds" in rules["loss", "residual"]["measured"]
    assert [one["seed"] for one in found["seeds"] if one["arm"] == "residual"] == [1, 2, 3, 11, 12, 13]
    assert all(one["difference"] > 0 for one in found["seeds"])


def test_a_crash_is_red_and_every_seed_of_it_appears(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = said(folder, "train.lr=1e30", "train.clip=0", "--stale-ok")
    assert code == 1
    assert found["layers"]["L1"] == "fail"
    assert all("diverged: loss is" in one["failure"] for one in found["seeds"] if one["stage"] == "look 1")
    assert found["layers"]["L2"] == "fail", "the seeds that are left are no fair sample"
    assert "diverged: loss is" in capsys.readouterr().out.split("### Every seed")[1]


def test_another_environment_compares_no_loss_and_says_what_would(folder: Path) -> None:
    environment = Baseline.read(folder / "tiny.json", "tiny").environment
    rewrite(folder, environment={**environment, "cpu": "another"})
    code, found = said(folder)
    assert code == 3
    assert found["layers"] == {"L0": "pass", "L1": "pass", "L2": "inconclusive", "L3": "not judged"}
    assert any("--relative" in one["measured"] for one in found["findings"] if one["layer"] == "L2")
    assert "cpu another -> " in found["notes"][0]
    assert said(folder, "--layers", "L0,L1")[0] == 0


def test_other_data_or_another_budget_compare_nothing(folder: Path) -> None:
    code, found = said(folder, "--layers", "L2", "train.steps=10", "--stale-ok")
    assert code == 3
    assert all("train.steps 12 -> 10" in one["measured"] for one in found["findings"])
    rewrite(folder, digests={"data": "x", "valid": "y", "tokenizer": "z"})
    code, found = said(folder, "--layers", "L0,L2", "--stale-ok")
    assert code == 3
    assert {one["state"] for one in found["findings"] if one["rule"] in ("golden losses", "loss")} == {"inconclusive"}


def test_broken_pairing_is_judged_by_the_noise_of_strangers(folder: Path) -> None:
    made = Baseline.read(folder / "tiny.json", "tiny")
    arms = {
        name: arm.model_copy(
            update={"seeds": {key: run.model_copy(update={"batches": "x"}) for key, run in arm.seeds.items()}}
        )
        for name, arm in made.arms.items()
    }
    rewrite(folder, arms=arms)
    code, found = said(folder, "--layers", "L2")
    assert code == 0
    assert all("not paired" in one["measured"] for one in found["findings"])
    assert not any(one["paired"] for one in found["seeds"])


def test_drift_is_held_against_an_anchor(folder: Path) -> None:
    made = Baseline.read(folder / "tiny.json", "tiny")
    better = {
        name: arm.model_copy(
            update={
                "seeds": {k: run.model_copy(update={"loss": (run.loss or 0) - 0.3}) for k, run in arm.seeds.items()}
            }
        )
        for name, arm in made.arms.items()
    }
    made.model_copy(update={"arms": better}).write(folder / "tiny.anchor.json")
    code, found = said(folder, "--layers", "L2,L3")
    assert code == 1
    assert found["layers"] == {"L0": "not judged", "L1": "not judged", "L2": "pass", "L3": "fail"}
    drift = [one for one in found["seeds"] if one["layer"] == "L3" and one["arm"] == "residual"]
    assert [(one["stage"], one["seed"]) for one in drift] == [
        *[("looks", seed) for seed in (1, 2)], *[("confirmation", seed) for seed in (11, 12, 13)]
    ]  # fmt: skip
    made.write(folder / "tiny.anchor.json")
    assert said(folder, "--layers", "L3")[0] == 0


def test_a_layer_that_was_named_and_cannot_be_judged_is_inconclusive(folder: Path) -> None:
    code, found = said(folder, "--layers", "L3")
    assert (code, found["layers"]["L3"]) == (3, "inconclusive")
    assert found["seeds"] == [], "nothing is trained for it"


def test_a_crash_of_one_seed_is_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.gate import perplexity

    def run(cell: Any) -> Any:
        return SeedRun(loss=None, failure="error: boom") if "-s2-" in cell.path.name else real(cell)

    real = perplexity.seed_run
    monkeypatch.setattr(perplexity, "seed_run", run)
    code, found = said(folder, "--layers", "L2")
    assert code == 1
    assert all("runs failed: seed 2" in one["measured"] for one in found["findings"])


def test_a_closed_pipe_hides_no_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(
        "builtins.print", lambda *words, **how: closed() if how == {"flush": True} and "##" in str(words) else None
    )
    monkeypatch.setattr("os.dup2", lambda *_: None)
    code, found = said(folder, "--layers", "L2", "train.steps=10", "--stale-ok")
    assert code == found["exit_code"] == 3


def test_a_stale_calibration_is_refused_without_the_flag(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = noise_path(folder / "tiny.json")
    noise = Noise.read(path, "tiny")
    assert noise is not None
    old = (datetime.now(UTC) - timedelta(days=91)).isoformat()
    noise.model_copy(update={"created": old}).write(path)
    assert gate(folder, "--layers", "L2") == 3
    said = capsys.readouterr()
    assert "the calibration is stale: it is 91 days old, and 90 are allowed" in said.out
    assert "done in" not in said.err.split("perplexity:")[1], "nothing is trained for it"
    assert gate(folder, "--layers", "L2", "--stale-ok") == 0
    assert gate(folder, "--layers", "L0") == 0, "which needs none"
    path.unlink()
    assert gate(folder, "--layers", "L2") == 0
    assert "its own" in capsys.readouterr().out


def test_a_calibration_is_of_real_arms_and_has_every_loss_that_it_was_made_of(folder: Path) -> None:
    noise = Noise.read(noise_path(folder / "tiny.json"), "tiny")
    assert noise is not None
    assert (noise.seed.df, noise.paired.df) == (7 - 1 + 6 - 1, 6 - 1)
    assert sorted(noise.losses["residual"]) == ["1", "11", "12", "13", "2", "21", "3"]
    pairs = [noise.losses["dhc-n2"][seed] - noise.losses["residual"][seed] for seed in noise.losses["dhc-n2"]]
    mean = sum(pairs) / 6
    assert noise.pairs["dhc-n2"].mean == pytest.approx(mean)
    assert noise.paired.sd == pytest.approx((sum((one - mean) ** 2 for one in pairs) / 5) ** 0.5)
    assert 0 < noise.document_paired < noise.document
    assert noise.initialisation.df == noise.order.df == 5
    assert noise.initialisation.sd > 0
    assert noise.order.sd > 0
    assert noise.power[0].harm == 0.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accept"], "--accept --reason"),
        (["--reason", "because"], "--accept --reason"),
        (["--accept", "--reason", " "], "--reason: says nothing"),
        (["--accept", "--reason", "a\nb"], "--reason: one line of printable characters"),
        (["--accept", "--reason", "\udcff"], "--reason: one line of printable characters"),
        (["--accept", "--reason", "x", "--baseline", "README.md"], "README.md: damaged or cut short"),
        (["--accept", "--reason", "x", "--anchor", "a.json"], "--accept: writes the baseline"),
        (["--as-anchor"], "--as-anchor: writes the anchor, with --accept"),
        (["--baseline", "."], "--baseline: . is a folder"),
        (["--baseline", "x" * 300], "cannot be read"),
        (["--junit", "tests"], "cannot write tests: it is a folder"),
        (["--markdown", "README.md/x"], "cannot write README.md/x"),
        (["--junit", "same", "--json-file", "same"], "two outputs have this name"),
        (["--layers", "L9"], "no layer is called 'L9'"),
        (["--layers", ","], "names no layer"),
        (["--baseline", "results/baselines/cii.json"], "results/baselines/cii.json: there is no such gate baseline"),
        (["gate.margn=1"], "gate.margn: unknown key; did you mean 'margin'?"),
        (["gate.confirm=[1,2]"], "gate.confirm: seed 1 is not fresh"),
        (["gate.close_steps=5"], "gate.close_steps: 5 are more than the 4 golden steps"),
        (["--anchor", "nowhere.json"], "nowhere.json: there is no such gate baseline"),
        (["--relative", "no-such-commit"], "--relative: 'no-such-commit' is no revision"),
        (["--relative", "-x"], "--relative: '-x' is no revision"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = (folder / "tiny.json").read_bytes()
    words = [f"{words[0]}={words[1]}"] if words[0] == "--relative" else words
    assert gate(folder, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert (folder / "tiny.json").read_bytes() == before


def test_a_baseline_is_not_accepted_of_runs_that_failed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "tiny.json").read_bytes()
    assert gate(folder, "train.lr=1e30", "train.clip=0", "--accept", "--reason", "trial") == 1
    assert "not written" in capsys.readouterr().err
    assert (folder / "tiny.json").read_bytes() == before


def test_a_commit_is_run_beside_the_code_at_hand(folder: Path) -> None:
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("not a git checkout")
    (folder / "tiny.json").unlink()  # nothing of it is needed
    code, found = said(folder, "--relative", "HEAD", "--layers", "L0,L1,L2", "--stale-ok")
    assert found["against"]["revision"] == "HEAD"
    assert [one for one in found["findings"] if one["state"] in ("fail", "inconclusive")] == []
    assert code == 0
    assert {one["difference"] for one in found["seeds"]} == {0.0}
    worktrees = subprocess.run(["git", "-C", str(ROOT), "worktree", "list"], capture_output=True, text=True).stdout
    assert "harness-gate-" not in worktrees
