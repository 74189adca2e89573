"""What is wrong with a suite file is said in a line that names file, line, dotted key and the nearest valid choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.suite.file import load_suite
from harness.suite.schema import Suite

RESIDUAL = "    connection: residual\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("baseline:", "baselin:", ":2: baselin: unknown key; did you mean 'baseline'?"),
        ("seeds:", "sedes:", ":3: sedes: unknown key; did you mean 'seeds'?"),
        ("  lr:", "  lrr:", ":14: train.lrr: unknown key; did you mean 'lr'?"),
        (RESIDUAL, RESIDUAL + "    modle: {}\n", ":8: arms.residual.modle: unknown key; did you mean 'model'?"),
        (
            RESIDUAL,
            RESIDUAL + "    train:\n      stesp: 4\n",
            ":9: arms.residual.train.stesp: unknown key; did you mean 'steps'?",
        ),
        (
            RESIDUAL,
            RESIDUAL + "    model: {widht: 4}\n",
            ":8: arms.residual.model.widht: unknown key; did you mean 'width'?",
        ),
        (
            "rate: 4",
            "rate: 4\n      dinamic: true",
            ":12: arms.dhc.connection.dinamic: unknown key; did you mean 'dynamic'?",
        ),
        ("  corpus:", "  corpuss:", ":16: data.corpuss: unknown key; did you mean 'corpus'?"),
        ("  limit:", "  limitt:", ":18: evaluation.limitt: unknown key; did you mean 'limit'?"),
        ("  data: 7", "  dta: 7", ":20: streams.dta: unknown key; did you mean 'data'?"),
        ("scale: toy", "scale: toyy", ":4: scale: unknown scale 'toyy'; did you mean 'toy'?"),
        ("baseline: r", "baseline: ", ":2: baseline: no arm is called 'esidual'; did you mean 'residual'?"),
        (
            "type: hyper",
            "type: hiper",
            ":10: arms.dhc.connection.type: unknown connection 'hiper'; did you mean 'hyper'?",
        ),
        (
            "connection: residual",
            "connection: residul",
            ":7: arms.residual.connection.type: unknown connection 'residul'; did you mean 'residual'?",
        ),
    ],
)  # fmt: skip
def test_a_misspelt_word_is_one_line_with_the_nearest_valid_one(
    refusal: Callable[..., str], old: str, new: str, message: str
) -> None:
    assert refusal((old, new)) == f"suite.yaml{message}"


def test_a_misspelt_required_key_is_named_with_its_nearest(refusal: Callable[..., str]) -> None:
    lines = refusal(("rate: 4", "ratee: 4")).split("\n")
    assert "suite.yaml:11: arms.dhc.connection.ratee: unknown key; did you mean 'rate'?" in lines


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate: 4", "rate: 0", ":11: arms.dhc.connection.rate: input should be greater than or equal to 1, got 0"),
        ("rate: 4", "rate: true", ":11: arms.dhc.connection.rate: input should be a valid integer, got True"),
        ("rate: 4", "rate: '4'", ":11: arms.dhc.connection.rate: input should be a valid integer, got '4'"),
        ("hyper\n      rate: 4", "frac\n      rate: 3", ":11: arms.dhc.connection.rate: frac-rate 3 does not divide"),
        ("      type: hyper\n", "", ":9: arms.dhc.connection: a connection needs a type"),
        ("lr: 3e-4", "lr: .nan", ":14: train.lr: input should be a finite number, got nan"),
        ("lr: 3e-4", "lr: 3e-4\n  precision: fp8", ":15: train.precision: 'fp8' is none of 'fp32' or 'bf16'"),
        ("steps: 100", "steps: 10\n  warmup_steps: 10", ":14: train.warmup_steps: 10 warm-up steps leave none"),
        (RESIDUAL, RESIDUAL + "    model: {heads: 5}\n", ":8: arms.residual.model.heads: 5 heads do not divide"),
        ("corpus: stdlib", "corpus: text", ":15: data.files: the corpus 'text' needs files"),
        ("limit: 8", "limit: 0", ":18: evaluation.limit: input should be greater than or equal to 1, got 0"),
        ("limit: 8", "tier: quick", ":18: evaluation.tier: 'quick' is none of 'fast' or 'full'"),
        ("  dhc:", "  d h c:", ":8: arms.d h c: 'd h c' is no arm name"),
        ("rate: 4", "rate: 4\n      A_r: forzen", ":12: arms.dhc.connection.A_r: 'forzen' is none of 'dynamic', 'static' or"),
        ("hyper\n      rate: 4", "ghc\n      fractions: 4\n      slots: 2", ":12: arms.dhc.connection.slots: "),
        ("hyper\n      rate: 4", "ghc\n      fractions: 5\n      slots: 6", ":11: arms.dhc.connection.fractions: "),
        ("hyper\n      rate: 4", "attention_residuals\n      heads: 7", ":11: arms.dhc.connection.heads: 7 heads do not"),
        ("hyper\n      rate: 4", "mhc_lite\n      rate: 9", ":11: arms.dhc.connection.rate: input should be less than or"),
        ("hyper\n      rate: 4", "denseformer\n      period: 99", ":11: arms.dhc.connection.period: "),
        ("hyper\n      rate: 4", "post_norm\n      rate: 4", ":11: arms.dhc.connection.rate: unknown key"),
        (
            "seeds: 2", "seeds: 2\nreported: [{title: t, source: s, values: {residual: 1, dhcc: 2}}]",
            ":4: reported.0.values.dhcc: no arm is called 'dhcc'; did you mean 'dhc'?",
        ),
        (
            "seeds: 2", "seeds: 2\nreported: [{title: t, source: s, values: {dhc: 2}}]",
            ":4: reported.0.values: the baseline 'residual' has no value to compare with",
        ),
        (
            "seeds: 2", "seeds: 2\nreported: [{title: t, sorce: s, source: s, values: {residual: 2}}]",
            ":4: reported.0.sorce: unknown key; did you mean 'source'?",
        ),
        ("seeds: 2", "seeds: [1, 1]", ":3: seeds: a seed is given twice"),
        ("seeds: 2", "seeds: [-1]", ":3: seeds: seeds are not negative"),
        ("seeds: 2", "seeds: []", ":3: seeds: "),
        ("seeds: 2", "seeds: 0", ":3: seeds: "),
        ("seeds: 2", "seeds: true", ":3: seeds: "),
        ("baseline: residual\n", "", ": baseline: missing"),
        ("  residual:\n    connection: residual", "  residual: residual", ":6: arms.residual: an arm is a mapping"),
        ("seeds: 2", "seeds: 2\nseeds: 3", ":4: seeds: given twice (first on line 3)"),
        ("  lr: 3e-4", "  lr: 3e-4\n  lr: 3e-4", ":15: train.lr: given twice (first on line 14)"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_with_its_place(
    refusal: Callable[..., str], old: str, new: str, message: str
) -> None:
    said = refusal((old, new))
    assert said.startswith(f"suite.yaml{message}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": a file of settings is a mapping of keys, this one is empty"),
        ("# only a comment\n", ": a file of settings is a mapping of keys, this one is empty"),
        ("- a\n", ": a file of settings is a mapping of keys, this one is a list"),
        ("name: s\narms: [1,\nb: }\n", ":3: not YAML: "),
        ("name: s\n\tarms: 3\n", ":2: not YAML: "),
        ("name: s\nmodel: *nowhere\n", ":2: not YAML: found undefined alias"),
        ("name: s\nmodel: !!python/object:os.system {}\n", ":2: not YAML: could not determine a constructor"),
        ("name: s\nbaseline: a\nseeds: 1\narms:\n", ":4: arms: a suite needs at least one arm"),
    ],
)
def test_a_text_that_is_no_suite_is_refused_with_its_line(refusal: Callable[..., str], text: str, message: str) -> None:
    said = refusal(text=text)
    assert said.startswith(f"suite.yaml{message}")
    assert "\n" not in said


def test_a_missing_unreadable_or_foreign_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    for name, reason in (("none.yaml", "No such file"), (".", "Is a directory"), ("latin.yaml", "it is not UTF-8")):
        with pytest.raises(UsageError, match=reason) as caught:
            load_suite(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps: 100", "steps: -1"), ":13: train.steps: input should be greater than or equal to 1, got -1"),
        (("train:", "model: {width: 65}\ntrain:"), ":12: model.heads: 4 heads do not divide the width 65"),
    ],
)
def test_a_wrong_value_that_all_arms_share_is_reported_once(
    refusal: Callable[..., str], change: tuple[str, str], message: str
) -> None:
    assert refusal(change) == f"suite.yaml{message}"


def test_every_problem_of_a_section_is_reported_not_only_the_first(refusal: Callable[..., str]) -> None:
    assert refusal(("steps: 100", "steps: 0"), ("lr: 3e-4", "lr: -1.0")).split("\n") == [
        "suite.yaml:13: train.steps: input should be greater than or equal to 1, got 0",
        "suite.yaml:14: train.lr: input should be greater than 0, got -1.0",
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("scale: toy", "scale: [toy]"),
        ("baseline: residual", "baseline: [residual]"),
        ("scale: toy", "scale: toy\n? [1, 2]\n: 3"),
        ("train:", "model: &m {x: *m}\ntrain:"),
        ("name: small", "name: small\0"),
    ],
    ids=["scale is a list", "baseline is a list", "key is a list", "alias to itself", "NUL in the file"],
)
def test_odd_yaml_is_refused_in_one_line_too(refusal: Callable[..., str], change: tuple[str, str]) -> None:
    said = refusal(change)
    assert said.startswith("suite.yaml:")
    assert "\n" not in said


def test_a_switch_of_the_dynamic_part_on_a_static_connection_is_an_error(load: Callable[..., Suite]) -> None:
    static = "arms.dhc.connection={type: hyper, rate: 2, dynamic: false, tanh: false}"
    with pytest.raises(UsageError, match="'tanh' concerns the dynamic part"):
        load(overrides=[static])
