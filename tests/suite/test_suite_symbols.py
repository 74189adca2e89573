"""Suites of synthetic diagnostics: what is refused with its place, how they are planned, and how they shrink."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.data.inputs import TextInputs
from harness.data.load import load_data
from harness.models.settings import DecoderSettings
from harness.suite.cells import cells
from harness.suite.estimate import Machine
from harness.suite.file import load_suite
from harness.suite.plan import plan, plan_text
from harness.suite.schema import Suite
from harness.suite.smoke import smoke

DIAGNOSTIC = """\
name: small
baseline: residual
seeds: 2
scale: toy
arms:
  residual: {connection: residual}
  dhc: {connection: {type: hyper, rate: 2}}
  short: {connection: residual, model: {context: 60}}
data:
  corpus: mqar
  vocabulary: 64
  pairs: [4, 15]
"""
SUITES = sorted((Path(__file__).parents[2] / "suites" / "diagnostics").glob("*.yaml"))
Load = Callable[..., Suite]
Refusal = Callable[..., str]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("corpus: mqar", "corpus: mqra"), ":10: data.corpus: unknown corpus 'mqra'; did you mean 'mqar'?"),
        (("  pairs", "  pair"), ":12: data.pair: unknown key; did you mean 'pairs'?"),
        (("  pairs: [4, 15]", "  depth: 3"), ":12: data.depth: the corpus 'mqar' has no key 'depth'; it is of brackets"),
        (("[4, 15]", "4"), ":12: data.pairs: must be a list, got 4"),
        (("[4, 15]", "[4, 0]"), ":12: data.pairs.1: input should be greater than or equal to 1, got 0"),
        (("[4, 15]", "[]"), ":12: data.pairs: "),
        (("[4, 15]", "[4, 4]"), ":12: data.pairs: a number is given twice"),
        (("[4, 15]", "[4, 15]\n  power: 0.0"), ":13: data.power: input should be greater than 0, got 0.0"),
        (("vocabulary: 64", "vocabulary: 31"),
         ":12: data.pairs: 15 pairs need as many keys, and there are 14 in a vocabulary of 31"),
        (("[4, 15]", "[4, 16]"),
         ":12: data.pairs: 16 pairs and their queries need 64 tokens, and the context is 60 (arm 'short')"),
        (("mqar\n  vocabulary: 64\n  pairs: [4, 15]", "induction\n  repeated: 31\n  vocabulary: 40"),
         ":11: data.repeated: twice 31 tokens are 62, and the context is 60 (arm 'short')"),
        (("mqar\n  vocabulary: 64\n  pairs: [4, 15]", "induction\n  vocabulary: 5"),
         ":9: data.repeated: 12 different tokens leave no other in a vocabulary of 5"),
        (("mqar\n  vocabulary: 64\n  pairs: [4, 15]", "copy\n  place: end"), ":11: data.place: 'end' is none of 'start'"),
        (("mqar\n  vocabulary: 64\n  pairs: [4, 15]", "brackets\n  depth: 31"),
         ":11: data.depth: opening and closing 31 brackets takes 62 tokens, and the context is 60 (arm 'short')"),
        (("mqar\n  vocabulary: 64\n  pairs: [4, 15]", "brackets\n  kinds: 1"),
         ":11: data.kinds: input should be greater than or equal to 2, got 1"),
        (("data:", "evaluation: {tasks: [cloze]}\ndata:"),
         ":9: evaluation.tasks: tasks are for text, and the data are symbols"),
        (("scale: toy", "scale: vit-toy"), "a 'vit' learns from images, and the corpus 'mqar' is symbols; for it: decoder"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_place(change: tuple[str, str], message: str, refusal: Refusal) -> None:
    changes = [change]
    if "vit-toy" in change[1]:
        changes.append((", model: {context: 60}", ""))
    said = refusal(*changes, text=DIAGNOSTIC)
    assert message in said
    assert said.startswith("suite.yaml:")
    assert "\n" not in said


def test_another_diagnostic_is_asked_on_the_command_line_where_the_file_sets_no_key_of_the_first(load: Load) -> None:
    plain = DIAGNOSTIC.replace("  vocabulary: 64\n  pairs: [4, 15]\n", "")
    for name in ("mqar", "induction", "copy", "brackets"):
        suite = load(text=plain, overrides=[f"data.corpus={name}"])
        assert suite.data.corpus == name
        assert suite.evaluation.tasks == (), "the text's tasks are no default of symbols"
    assert load(text=DIAGNOSTIC, overrides=["data.pairs=[2]"]).data.pairs == (2,)  # type: ignore[attr-defined]


def test_settings_of_the_diagnostic_change_the_identity_and_another_context_the_cell(load: Load) -> None:
    suites = [
        load(text=DIAGNOSTIC, overrides=overrides)
        for overrides in ([], ["data.pairs=[4]"], ["data.vocabulary=70"], ["data.power=1.0"], ["model.context=100"])
    ]
    identities = [[cell.identity for cell in cells(suite, load_data(suite.data))] for suite in suites]
    assert len({found[0] for found in identities}) == 5


def test_a_plan_says_what_is_made_and_counts_validation_without_an_end_of_the_data(load: Load) -> None:
    suite = load(text=DIAGNOSTIC)
    data = load_data(suite.data)
    made = cells(suite, data)
    machine = Machine(name="here", step_seconds=dict.fromkeys(suite.arms, 1.0))
    document = plan(
        suite, TextInputs(64), data, made, {cell.identity: "todo" for cell in made}, machine
    )  # fmt: skip
    keys = {"vocabulary": 64, "pairs": [4, 15], "power": 0.01, "random_fill": True}
    assert document["data"] == {"corpus": "mqar", "digest": data.digest, "keys": keys, "tokens": 64, "choices": 32}
    assert document["tasks"] == []
    said = next(line for line in plan_text(document).splitlines() if line.startswith("data: "))
    assert said == (
        "data: mqar, made from the seed with vocabulary 64, pairs [4, 15], power 0.01, random_fill true; 64 tokens, a "
        f"guess is right once in 32, digest {data.digest[:12]}"
    )
    # 16,384 tokens in sequences of 64, four times, each a third of a step of 8.
    arm = next(arm for arm in document["arms"] if arm["arm"] == "residual")
    assert arm["seconds_per_cell"] == pytest.approx(400 + 4 * 256 / (3 * 8))


def test_a_smoke_keeps_the_smallest_multiple_of_its_context_that_holds_the_sequence(load: Load) -> None:
    def contexts(pairs: int, context: int) -> set[int]:
        suite = load(
            (", model: {context: 60}", ""),
            text=DIAGNOSTIC,
            overrides=[f"data.pairs=[{pairs}]", "data.vocabulary=1000", f"model.context={context}"],
        )
        small = smoke(suite)
        assert small.data == suite.data
        return {arm.model.context for arm in small.arms.values() if isinstance(arm.model, DecoderSettings)}

    assert contexts(32, 1000) == {128}
    assert contexts(33, 1000) == {256}
    assert contexts(65, 300) == {300}
    assert contexts(4, 40) == {40}


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_the_suites_of_diagnostics_ask_each_its_own_of_the_quickstarts_arms(suite: Path) -> None:
    loaded, quickstart = load_suite(suite), load_suite(suite.parents[1] / "quickstart.yaml")
    assert loaded.data.corpus == suite.stem
    assert loaded.data.KIND == "symbols"
    assert {name: arm.connection for name, arm in loaded.arms.items()} == {
        name: arm.connection for name, arm in quickstart.arms.items()
    }
    assert loaded.seeds == (1, 2, 3, 4)


def test_there_is_a_suite_for_every_diagnostic() -> None:
    assert {path.stem for path in SUITES} == {"mqar", "induction", "copy", "brackets"}


def test_the_unit_of_a_decoder_is_that_of_what_it_is_asked() -> None:
    model = DecoderSettings(layers=1, width=2, heads=1, context=8)
    assert (model.unit("text"), model.unit("symbols")) == ("nats per token", "nats per answer")


def test_diagnostics_are_listed_and_a_smoke_of_their_suites_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "hf, digits" in listed
    assert "mqar, induction, copy, brackets" in listed
    for suite in SUITES:
        assert f"suites/diagnostics/{suite.name}" in listed
        assert main(["plan", str(suite), "--smoke"]) == 0
        planned = capsys.readouterr().out
        assert "10 cells = 5 arms × 2 seeds" in planned
        assert f"data: {suite.stem}, made from the seed with " in planned
