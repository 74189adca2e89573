"""The space over a suite's arms: which parameters a trial has, and which arm it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from search_support import STUDY

from harness.search.file import StudyFile
from harness.search.settings import Params
from harness.search.space import Space

Study = Callable[..., Path]
Make = Callable[[str], Space]


@pytest.fixture
def space(study: Study) -> Make:
    """Of a study with these lines for parameters, over residual and dhc-n2 of width 16."""

    def make(parameters: str) -> Space:
        head, tail = STUDY.split("space:\n")[0], "fresh:" + STUDY.split("fresh:")[1]
        return StudyFile(study(f"{head}space:\n{parameters}\n{tail}"), []).resolve().space

    return make


def draw(space: Space, arm: str, **values: object) -> Params:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return space.draw(arm, lambda name, parameter: named[name])


RATE = (
    "  connection.type: {type: categorical, choices: [residual, hyper, frac]}\n"
    "  connection.rate: {type: categorical, choices: [2, 4], when: {connection.type: [hyper, frac]}}\n"
    "  connection.dynamic: {type: categorical, choices: [true, false], when: {connection.type: [hyper, frac]}}\n"
    "  connection.tanh: {type: categorical, choices: [true, false], when: {connection.dynamic: true}}"
)


def test_conditions_follow_what_was_drawn_above(space: Make) -> None:
    found = space(RATE)
    assert draw(found, "residual", connection__type="residual") == {"connection.type": "residual"}
    drawn = draw(found, "residual", connection__type="frac", connection__rate=4, connection__dynamic=False)
    assert drawn == {"connection.type": "frac", "connection.rate": 4, "connection.dynamic": False}


def test_conditions_on_what_the_arm_is_give_arms_parameters_of_their_own(space: Make) -> None:
    found = space("  connection.rate: {type: int, low: 2, high: 4, when: {connection.type: hyper}}\n"
                  "  train.lr: {type: float, low: 1e-4, high: 1e-2}")  # fmt: skip
    assert draw(found, "residual", train__lr=1e-3) == {"train.lr": 1e-3}
    assert draw(found, "dhc-n2", train__lr=1e-3, connection__rate=3) == {"connection.rate": 3, "train.lr": 1e-3}


def test_parameters_of_some_arms_are_no_others(space: Make) -> None:
    found = space("  connection.rate: {type: int, low: 2, high: 4, arms: [dhc-n2]}\n"
                  "  train.lr: {type: float, low: 1e-4, high: 1e-2}")  # fmt: skip
    assert list(found.parameters("residual")) == ["train.lr"]
    assert list(found.parameters("dhc-n2")) == ["connection.rate", "train.lr"]


def test_another_type_of_connection_comes_with_its_own_defaults_and_the_own_type_with_the_files(space: Make) -> None:
    found = space(RATE.replace("choices: [residual, hyper, frac]", "choices: [hyper, frac]"))
    own = found.arm("dhc-n2", {"connection.type": "hyper", "connection.dynamic": False})
    assert (own.connection.type, own.connection.rate) == ("hyper", 2), "the rate is the file's"
    other = found.arm("dhc-n2", {"connection.type": "frac", "connection.rate": 4})
    assert (other.connection.type, other.connection.rate, other.connection.dynamic) == ("frac", 4, True)


def test_the_own_setting_is_a_trial_where_the_space_holds_it(space: Make) -> None:
    assert space("  train.lr: {type: float, low: 1e-4, high: 1e-2}").own("residual") == {"train.lr": 1e-3}
    assert space("  train.lr: {type: float, low: 2e-3, high: 1e-2}").own("residual") is None
    assert space("  train.lr: {type: categorical, choices: [1e-2, 1e-3]}").own("residual") == {"train.lr": 1e-3}
    assert space(RATE).own("residual") == {"connection.type": "residual"}


def test_a_trial_differs_from_its_arm_in_its_parameters_alone(space: Make) -> None:
    found = space("  train.lr: {type: float, low: 1e-4, high: 1e-2}\n  model.dropout: {type: float, low: 0, high: 0.5}")
    made = found.arm("dhc-n2", {"train.lr": 5e-3, "model.dropout": 0.25})
    own = found.suite.arms["dhc-n2"]
    assert made.train == own.train.model_copy(update={"lr": 5e-3})
    assert made.model == own.model.model_copy(update={"dropout": 0.25})
    assert made.connection == own.connection


def test_a_combination_that_no_single_choice_shows_is_refused_too(space: Make) -> None:
    from harness.errors import UsageError

    with pytest.raises(UsageError, match="frac-rate 3 does not divide the width 16"):
        space(RATE.replace("choices: [2, 4]", "choices: [2, 3]"))
