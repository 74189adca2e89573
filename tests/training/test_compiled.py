"""`train.compile`: what it leaves as it is, what it falls back to, and that a step has no other graphs than it began with."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import CONNECTIONS, MemoryJournal, fixed_corpus

from harness.training import compiled
from harness.training.compiled import Compiled
from harness.training.fit import Fitted, StoppedError, fit
from harness.training.objective import make_objective
from harness.training.recipe import Recipe, build_model
from harness.training.step import Stepper

Make = Callable[..., Any]


class Graphs:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        self.made += 1
        return graph.forward


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    torch._dynamo.reset()
    backend = Graphs()
    monkeypatch.setattr(compiled, "BACKEND", backend)
    return backend


def both(recipe: Make, connection: str, **train: Any) -> tuple[Recipe, Recipe]:
    """Without and with `train.compile`."""
    plain, wanted = (recipe(CONNECTIONS[connection], dropout=0.1, compile=c, **train) for c in (False, True))
    return plain, wanted


def run(made: Recipe, folder: Path, last: int | None = None) -> tuple[MemoryJournal, Fitted | None]:
    """Trained to the end, or stopped after the step `last`."""
    journal, asked = MemoryJournal(), iter(range(1, 10**6))
    try:
        return journal, fit(made, fixed_corpus(), journal, folder, lambda: next(asked) == last)
    except StoppedError:
        return journal, None


@pytest.mark.parametrize(("micro", "shapes"), [(None, 1), (3, 2)])
def test_graphs_are_made_before_the_first_step_and_change_nothing(
    micro: int | None, shapes: int, recipe: Make, graphs: Graphs, tmp_path: Path
) -> None:
    plain, wanted = both(recipe, "dhc-n4", micro_batch_size=micro)
    (tmp_path / "plain").mkdir()
    expected, eager = run(plain, tmp_path / "plain")
    found, fitted = run(wanted, tmp_path)
    assert graphs.made == shapes
    assert found.numbers() == expected.numbers()
    assert eager is not None
    assert fitted is not None
    assert fitted.digests == eager.digests
    assert list(fitted.model.state_dict()) == list(eager.model.state_dict())
    assert all(torch.equal(*pair) for pair in zip(fitted.model.parameters(), eager.model.parameters(), strict=True))
    assert fitted.metrics["cost/compile_seconds"] > 0
    assert "cost/compile_seconds" not in eager.metrics


def test_a_checkpoint_goes_on_either_way(recipe: Make, graphs: Graphs, tmp_path: Path) -> None:
    plain, wanted = both(recipe, "residual")
    for name in ("whole", "first", "then"):
        (tmp_path / name).mkdir()
    _, whole = run(plain, tmp_path / "whole")
    run(wanted, tmp_path / "first", last=7)
    _, one = run(plain, tmp_path / "first")
    run(plain, tmp_path / "then", last=7)
    _, other = run(wanted, tmp_path / "then")
    for fitted in (one, other):
        assert whole is not None
        assert fitted is not None
        assert fitted.metrics["validation/loss"] == whole.metrics["validation/loss"]
        assert fitted.digests == whole.digests
        assert "cost/compile_seconds" in fitted.metrics, "of the process that compiled"


def test_what_cannot_be_compiled_is_trained_in_eager_pytorch_and_says_why_in_a_line(
    recipe: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        logging.getLogger("torch._dynamo").error("a traceback of many lines")
        raise FileNotFoundError("no compiler\nhere")

    torch._dynamo.reset()
    monkeypatch.setattr(compiled, "BACKEND", broken)
    plain, wanted = both(recipe, "dhc-n4")
    (tmp_path / "plain").mkdir()
    expected, _ = run(plain, tmp_path / "plain")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found, fitted = run(wanted, tmp_path)
    said = [str(one.message) for one in told if "train.compile" in str(one.message)]
    assert said == [
        "train.compile: trained in eager PyTorch, for compiling failed (FileNotFoundError: no compiler here)"
    ]
    assert "a traceback" not in caplog.text
    assert not logging.root.manager.disable
    assert found.numbers() == expected.numbers()
    assert fitted is not None
    assert "cost/compile_seconds" not in fitted.metrics


def test_compiling_leaves_the_random_state_and_no_gradients(recipe: Make, graphs: Graphs) -> None:
    _, wanted = both(recipe, "sfc-m2")
    objective, model = make_objective(wanted, fixed_corpus()), build_model(wanted)
    losses, before = Compiled(objective, model, wanted.train), torch.get_rng_state()
    losses.prepare([[torch.from_numpy(objective.batch(0)[0])]], torch.enable_grad)
    assert graphs.made == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_as_many_models_as_there_are_arms_are_compiled_before_their_first_timed_step(
    recipe: Make, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 2)
    plain, wanted = both(recipe, "residual", micro_batch_size=2)
    assert Stepper.of(plain, fixed_corpus(), torch.device("cpu")).losses.seconds is None
    for made in range(1, 4):
        stepper = Stepper.of(wanted, fixed_corpus(), torch.device("cpu"))
        assert (graphs.made, stepper.losses.seconds is not None) == (made, True)
        stepper.seconds(1)
    assert graphs.made == 3


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_for_this_machine_it_learns_the_same(precision: str, recipe: Make, tmp_path: Path) -> None:
    torch._dynamo.reset()
    plain, wanted = both(recipe, "dhc-n4", precision=precision)
    (tmp_path / "plain").mkdir()
    expected, _ = run(plain, tmp_path / "plain")
    found, fitted = run(wanted, tmp_path)
    assert fitted is not None
    assert fitted.metrics["cost/compile_seconds"] > 1
    assert found.losses() == pytest.approx(expected.losses(), rel=1e-5 if precision == "fp32" else 1e-2)
