"""Diagnostics of the connections in training: every type on every model, nothing disturbed, what is written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from training_support import CONNECTIONS, MODELS, RELATIVES, MemoryJournal, fixed_corpus

from harness.connections.base import Branch
from harness.connections.residual import ResidualConnections
from harness.connections.settings import CONNECTIONS as TABLE
from harness.connections.settings import AnyConnection
from harness.connections.settings.residual import ResidualSettings
from harness.data.images import ImageSet
from harness.data.load import Data, inputs_of, load_data
from harness.data.settings import data_settings
from harness.data.synthetic import load_symbols
from harness.models.settings import AnyModel
from harness.training import keeper
from harness.training.diagnose import Diagnosis, diagnose, rounded, values
from harness.training.fit import Fitted, fit
from harness.training.objective import EXAMPLE_TOKENS, make_objective
from harness.training.recipe import Recipe, build_model
from harness.training.settings import TrainSettings

TYPES = {**CONNECTIONS, **RELATIVES}
ROW_TYPES = {"hyper", "frac", "ghc", "mhc", "mhc_lite", "identity_hc"}
CASES = [("decoder", name) for name in TYPES] + [
    (model, name)
    for model in ("olmo", "moe", "vit", "dit")
    for name in ("residual", "post-norm", "dhc-n4", "dghc-m2-n3", "mhc-n4", "attnres", "mudd")
]
LAYERS = 4
K = 2 * LAYERS


def digits() -> Data:
    return load_data(data_settings(corpus="digits", valid_share=0.2))


def made(model: str, name: str, **train: Any) -> tuple[Recipe, Data]:
    shape = TypeAdapter(AnyModel).validate_python(
        {"layers": LAYERS, "width": 32, "heads": 2, "dropout": 0.1, **MODELS[model]}
    )
    data = fixed_corpus() if "text" in shape.DATA else digits()
    budget = {"steps": 6, "batch_size": 4, "lr": 2e-3, "warmup_steps": 2, "log_every": 2, "validate_every": 3,
              "validation_tokens": 512, "validation_images": 60, "device": "cpu"}  # fmt: skip
    recipe = Recipe(
        connection=TypeAdapter(AnyConnection).validate_python(TYPES[name]),
        model=shape,
        train=TrainSettings(**{**budget, **train}),
        inputs=inputs_of(data),
        data=data_settings() if "text" in shape.DATA else data_settings(corpus="digits", valid_share=0.2),
        streams={"backbone": 1, "connection": 2, "data": 3, "dropout": 4},
    )
    return recipe, data


def trained(recipe: Recipe, data: Data, folder: Path) -> tuple[MemoryJournal, Fitted]:
    journal = MemoryJournal()
    folder.mkdir(exist_ok=True)
    return journal, fit(recipe, data, journal, folder)


def test_all_types_of_the_table_are_among_the_cases() -> None:
    assert {settings["type"] for settings in TYPES.values()} == set(TABLE)


@pytest.mark.parametrize(("model", "name"), CASES)
def test_every_type_can_be_diagnosed_and_the_model_is_left_as_found(model: str, name: str) -> None:
    recipe, data = made(model, name)
    network, objective = build_model(recipe), make_objective(recipe, data)
    objective.losses(network, *map(torch.from_numpy, objective.batch(0))).mean().backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    examples, state = objective.examples(torch.device("cpu")), torch.get_rng_state()
    found = diagnose(network, lambda: network(*examples))
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert not network.connections._forward_hooks
    assert all(not module._forward_hooks for module in network.modules())

    assert found.matrix.shape == (K + 1, K + 1)
    assert torch.isfinite(found.matrix).all()
    assert torch.equal(found.matrix, found.matrix.tril())
    assert found.matrix[0, 0] != 0
    assert [len(found.cosine[one]) for one in ("median", "low", "high")] == [K - 1] * 3
    for low, median, high in zip(*(found.cosine[one] for one in ("low", "median", "high")), strict=True):
        assert -1 - 1e-9 <= low <= median <= high <= 1 + 1e-9
    assert np.shape(found.row_rms)[0] == K + 1
    rows = recipe.connection.type in ROW_TYPES
    assert (found.gain is not None) == (found.hidden is not None) == rows
    assert (found.dispersion is not None) == (recipe.connection.type in ROW_TYPES - {"frac"})
    shown = values(found, None)
    assert ("connection/gain_forward_max" in shown) == rows
    assert all(math.isfinite(value) for value in shown.values())


@pytest.mark.parametrize("model", ["decoder", "vit", "dit"])
def test_examples_are_always_the_same_few_and_the_models_own_inputs(model: str) -> None:
    recipe, data = made(model, "residual", validation_images=200, validation_tokens=4096, batch_size=64)
    objective = make_objective(recipe, data)
    one, other = (objective.examples(torch.device("cpu")) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    tokens = len(one[0]) * recipe.model.positions(recipe.inputs)
    assert EXAMPLE_TOKENS // 2 < tokens <= EXAMPLE_TOKENS
    if model == "decoder":
        assert len(torch.unique(one[0], dim=0)) == len(one[0])
    if model == "dit":
        assert len(set(one[1].tolist())) == 10, "all noise levels"
    recipe, data = made(model, "residual", batch_size=4, micro_batch_size=2)
    assert len(make_objective(recipe, data).examples(torch.device("cpu"))[0]) == 2, "no more than training takes"


def test_a_long_context_is_cut() -> None:
    recipe, data = made("decoder", "residual")
    recipe = dataclasses.replace(recipe, model=recipe.model.model_copy(update={"context": 2000}))
    assert make_objective(recipe, data).examples(torch.device("cpu"))[0].shape == (1, EXAMPLE_TOKENS)


@pytest.mark.parametrize(("model", "name"), [("moe", "dhc-n4"), ("vit", "mudd"), ("decoder", "altup-n2")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_and_what_is_judged_are_bit_equal_without_it(
    model: str, name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data = made(model, name, precision=precision)
    journal, fitted = trained(recipe, data, tmp_path / "with")
    monkeypatch.setattr(keeper.Keeper, "_diagnose", lambda *_: ({}, {}))
    without, plain = trained(recipe, data, tmp_path / "without")

    def numbers(found: MemoryJournal) -> list[Any]:
        return [line[:3] for line in found.numbers() if line[0] != "diagnostics"]

    assert numbers(journal) == numbers(without)
    assert fitted.expert_loads == plain.expert_loads
    assert (fitted.diagnostics is not None, plain.diagnostics) == (True, None)
    for one, other in zip(fitted.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert fitted.metrics["cost/saved_activation_bytes"] == plain.metrics["cost/saved_activation_bytes"]


def test_a_line_follows_every_validation_and_the_end_is_kept_whole(tmp_path: Path) -> None:
    recipe, data = made("decoder", "dhc-n4")
    journal, fitted = trained(recipe, data, tmp_path)
    kinds = [(kind, step) for kind, step, _ in journal.lines if kind != "train"]
    assert kinds == [("validation", 3), ("diagnostics", 3), ("validation", 6), ("diagnostics", 6)]
    last = journal.lines[-1][2]
    assert set(last) == {
        "connection/cosine_median", "connection/dispersion", "connection/dynamic_share", "connection/embedding_weight",
        "connection/gradient_ratio", "connection/gain_forward_max", "connection/gain_forward_min",
        "connection/gain_backward_max", "connection/gain_backward_min",
    }  # fmt: skip
    depth = journal.extras["diagnostics", 6]["depth"]
    assert np.shape(depth["row_rms"]) == (K + 1, 4)
    assert {len(depth["gradient_norm"]), *map(len, depth["gain"].values()), len(depth["dynamic_share"])} == {K}
    end = fitted.diagnostics
    assert end is not None
    assert end["tokens"] == 4 * 32
    assert np.shape(end["matrix"]) == (K + 1, K + 1)
    assert np.shape(end["hidden_matrices"]) == (4, K + 1, K + 1)
    assert last["connection/embedding_weight"] == pytest.approx(end["patterns"]["embedding_output"], rel=1e-5)
    json.dumps(end, allow_nan=False)
    # The model that is left gives the same matrix again.
    fitted.model.train()
    examples = make_objective(recipe, data).examples(torch.device("cpu"))
    again = diagnose(fitted.model, lambda: fitted.model(*examples))
    assert again.matrix.numpy() == pytest.approx(np.array(end["matrix"]), rel=1e-4)


class PickySettings(ResidualSettings):
    """A type that wants the model's own branches."""

    type: Literal["picky"] = "picky"  # type: ignore[assignment]

    def build(self, dim: int, sublayers: int) -> ResidualConnections:
        return PickyConnections()


class PickyConnections(ResidualConnections):
    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        if not all(isinstance(branch, nn.Module) for branch in branches):
            raise TypeError("not one of mine")
        return super().forward(x_BTD, branches)


def test_a_type_that_breaks_the_diagnosis_trains_on_and_is_named_once(tmp_path: Path) -> None:
    recipe, data = made("decoder", "residual")
    expected, _ = trained(recipe, data, tmp_path / "residual")
    with pytest.warns(UserWarning, match="'picky' cannot be diagnosed") as warned:
        journal, fitted = trained(dataclasses.replace(recipe, connection=PickySettings()), data, tmp_path / "picky")
    assert len([one for one in warned if "picky" in str(one.message)]) == 1
    assert "TypeError: not one of mine" in str(warned[0].message)
    assert journal.losses() == expected.losses()
    assert fitted.diagnostics is None
    depth = journal.extras["diagnostics", 6]["depth"]
    assert len(depth.pop("gradient_norm")) == K
    assert set(depth.values()) == {None}
    assert set(journal.lines[-1][2]) == {"connection/gradient_ratio"}


def test_what_is_not_finite_is_null_and_no_metric() -> None:
    assert rounded({"a": [1.23456789, float("nan")], "b": float("inf"), "c": None}) == {"a": [1.23457, None], "b": None, "c": None}  # fmt: skip
    recipe, data = made("decoder", "dhc-n4")
    network, objective = build_model(recipe), make_objective(recipe, data)
    with torch.no_grad():
        network.branches[3].out.weight.fill_(float("nan"))  # type: ignore[union-attr]
    examples = objective.examples(torch.device("cpu"))
    shown, depth, end = Diagnosis("hyper")(
        network, lambda: network(*examples), torch.full((K,), float("inf")), tokens=1, whole=True
    )
    json.dumps([shown, depth, end], allow_nan=False)
    assert "connection/cosine_median" not in shown
    assert "connection/gradient_ratio" not in shown
    assert depth["gradient_norm"] == [None] * K
    assert depth["row_rms"][0][0] > 0
    assert depth["row_rms"][-1][0] is None


# --- losses of held-out items


@pytest.mark.parametrize(
    ("model", "unit", "items"),
    [("decoder", "nats", "windows"), ("vit", "nats", "images"), ("dit", "squared error", "images")],
)
def test_held_out_losses_sum_up_to_the_validation_loss(model: str, unit: str, items: str, tmp_path: Path) -> None:
    recipe, data = made(model, "residual", validation_tokens=70 * 32)
    _, fitted = trained(recipe, data, tmp_path)
    held = fitted.held_out
    assert held is not None
    assert (held["unit"], held["items"]) == (unit, items)
    assert len(held["losses"]) == len(held["sizes"]) == (70 if model == "decoder" else 60)
    assert set(held["sizes"]) == ({32} if model == "decoder" else {1})
    mean = math.fsum(held["losses"]) / sum(held["sizes"])
    assert mean == pytest.approx(fitted.metrics["validation/loss"], rel=1e-6)
    assert np.std(held["losses"]) > 0
    if model == "vit":
        assert isinstance(data, ImageSet)
        images, labels = (torch.from_numpy(a) for a in make_objective(recipe, data).held_out)
        with torch.no_grad():
            logits = fitted.model(images).double()
        assert held["losses"] == pytest.approx(nn.functional.cross_entropy(logits, labels, reduction="none"), rel=1e-4)


def test_held_out_losses_of_answers_have_as_many_answers_as_are_asked(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    settings = data_settings(corpus="mqar", vocabulary=16, pairs=(1, 4))
    data = load_symbols(settings)
    made = recipe(CONNECTIONS["residual"], steps=5, batch_size=10)
    made = dataclasses.replace(
        made, model=made.model.model_copy(update={"context": 20}), inputs=data.inputs, data=settings
    )
    _, fitted = trained(made, data, tmp_path)
    held = fitted.held_out
    assert held is not None
    assert held["items"] == "sequences"
    assert set(held["sizes"]) == {1, 4}
    mean = math.fsum(held["losses"]) / sum(held["sizes"])
    assert mean == pytest.approx(fitted.metrics["validation/loss"], rel=1e-6)
