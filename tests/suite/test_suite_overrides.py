"""`key=value` on the command line: dotted, typed by the schema, refused in one line; and the numbers of YAML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.suite.schema import Suite
from harness.suite.yaml_lines import parse_value


@pytest.mark.parametrize("text", ["3e-4", "3E-4", "3.0e-4", "+3e-4", ".3e-3", "0.0003"])
def test_scientific_notation_is_a_number_in_the_file_and_on_the_command_line(
    load: Callable[..., Suite], text: str
) -> None:
    assert parse_value(text) == 3e-4
    assert load(("lr: 3e-4", f"lr: {text}")).arms["residual"].train.lr == 3e-4
    assert load(("lr: 3e-4", "lr: 1.0"), overrides=[f"train.lr={text}"]).arms["residual"].train.lr == 3e-4


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("true", True), ("[1, 2]", [1, 2]), ("word", "word"), ("'3e-4'", "3e-4"), ("", None), ("e4", "e4")],
)
def test_other_values_keep_their_yaml_type(text: str, value: Any) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_an_override_reaches_every_section(load: Callable[..., Suite]) -> None:
    suite = load(
        overrides=[
            "train.steps=70", "model.width=32", "arms.dhc.connection.rate=8", "data.valid_share=0.2", "name=other",
            "evaluation.limit=3", "streams.dropout=5", "arms.dhc.train.lr=1e-2",
            "arms.residual.connection={type: frac, rate: 2}", "arms.residual.connection.rate=4",
            "train.log_every=1", "train.log_every=2",
        ]
    )  # fmt: skip
    dhc, frac = suite.arms["dhc"], suite.arms["residual"]
    assert (dhc.train.steps, dhc.model.width, frac.model.width) == (70, 32, 32)
    assert (dhc.train.lr, frac.train.lr) == (1e-2, 3e-4)
    assert (dhc.connection.tag(), frac.connection.tag()) == ("dhc-n8", "dfc-m4")
    assert (suite.data.valid_share, suite.name, suite.evaluation.limit) == (0.2, "other", 3)
    assert (suite.streams.dropout, suite.streams.data) == (5, 7)
    assert dhc.train.log_every == 2, "the last of two overrides of a key counts"


def test_an_override_of_the_connection_takes_its_short_form(load: Callable[..., Suite]) -> None:
    assert load(overrides=["arms.dhc.connection=residual"]).arms["dhc"].connection.tag() == "residual"


def test_a_short_form_on_the_command_line_can_be_refined_by_the_next_override(load: Callable[..., Suite]) -> None:
    suite = load(overrides=["arms.residual.connection=frac", "arms.residual.connection.rate=2"])
    assert suite.arms["residual"].connection.tag() == "dfc-m2"


def test_seeds_are_a_list_or_a_count(load: Callable[..., Suite]) -> None:
    assert load().seeds == (1, 2)
    assert load(("seeds: 2", "seeds: [7, 3]")).seeds == (7, 3)
    assert load(overrides=["seeds=4"]).seeds == (1, 2, 3, 4)
    assert load(overrides=["seeds=[0, 9]"]).seeds == (0, 9)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=true", "train.steps: input should be a valid integer, got True"),
        ("train.steps='4'", "train.steps: input should be a valid integer, got '4'"),
        ("train.steps=3.5", "train.steps: input should be a valid integer, got 3.5"),
        ("train.steps=1e2", "train.steps: input should be a valid integer, got 100.0"),
        ("train.lr=fast", "train.lr: input should be a valid number, got 'fast'"),
        ("train.lr=", "train.lr: input should be a valid number, got None"),
        ("train.lr=.inf", "train.lr: input should be a finite number, got inf"),
        ("train.lrr=3", "train.lrr: unknown key; did you mean 'lr'?"),
        ("trian.lr=3", "trian.lr: unknown key; did you mean 'train'?"),
        ("train=3", "train: must be a mapping of keys"),
        ("name.x=3", "name.x: 'name' is not a section"),
        ("train.lr", "'train.lr' is not of the form key=value"),
        ("=3", "'=3' is not of the form key=value"),
        ("arms.dhx.connection.rate=3", "arms.dhx.connection.rate: no such arm; did you mean 'dhc'?"),
        ("arms.dhc.connection.rat=3", "arms.dhc.connection.rat: unknown key; did you mean 'rate'?"),
        ("arms.dhc.connection.dynamic=1", "arms.dhc.connection.dynamic: input should be a valid boolean, got 1"),
        ("baseline=dhx", "baseline: no arm is called 'dhx'; did you mean 'dhc'?"),
        ("seeds=[1, 1]", "seeds: a seed is given twice"),
        ("train.warmup_steps=100", "train.warmup_steps: 100 warm-up steps leave none of the 100 steps"),
        ("data.files=[a.txt]", "data.files: the corpus 'stdlib' has no key 'files'; it is of text, cifar10, image_folder"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_one_line_that_names_the_command_line(
    refusal: Callable[..., str], override: str, message: str
) -> None:
    assert refusal(overrides=[override]) == f"command line: {message}"


def test_an_override_that_is_no_yaml_names_its_key(refusal: Callable[..., str]) -> None:
    assert refusal(overrides=["train.lr=[1"]).startswith("command line: train.lr: ")
