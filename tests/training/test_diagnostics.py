"""Training on synthetic diagnostics: the mean over answers, micro-batches, resume, what is judged, what is learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from synthetic_support import CASES, Solver, symbols
from torch.nn import functional as F
from training_support import MemoryJournal

from harness.connections.settings import AnyConnection
from harness.data.diagnostics import IGNORED
from harness.data.settings import data_settings
from harness.data.synthetic import Symbols, load_symbols, slice_masks
from harness.evaluation.score import score
from harness.evaluation.settings import EvaluationSettings
from harness.evaluation.symbols import SEQUENCES, score_symbols
from harness.models.settings import DecoderSettings
from harness.suite.cells import stream_seeds
from harness.suite.schema import SeedStreams
from harness.training.fit import StoppedError, fit
from harness.training.objective import Answering, make_objective
from harness.training.recipe import Recipe, build_model
from harness.training.settings import TrainSettings

MIXED = {"corpus": "mqar", "vocabulary": 16, "pairs": (1, 4)}
"""Sequences with one answer, and with four."""
FEW = EvaluationSettings(tasks=(), limit=12)


def made(
    data: dict[str, Any],
    connection: dict[str, Any] | None = None,
    *,
    seed: int = 1,
    model: dict[str, Any] | None = None,
    **train: Any,
) -> tuple[Recipe, Symbols]:
    settings = data_settings(**data)
    found = load_symbols(settings)
    training = {
        "steps": 12, "batch_size": 10, "lr": 2e-3, "warmup_steps": 2, "log_every": 1, "checkpoint_every": 5,
        "validate_every": 6, "validation_tokens": 640, "device": "cpu",
    }  # fmt: skip
    recipe = Recipe(
        connection=TypeAdapter(AnyConnection).validate_python(connection or {"type": "residual"}),
        model=DecoderSettings(
            **{"layers": 2, "width": 16, "heads": 2, "context": 20, "init_std": 0.1, **(model or {})}
        ),
        train=TrainSettings(**{**training, **train}),
        inputs=found.inputs,
        data=settings,
        streams=stream_seeds(seed, SeedStreams()),
    )
    return recipe, found


def run(recipe: Recipe, data: Symbols, folder: Path, stop: Callable[[], bool] = lambda: False) -> Any:
    folder.mkdir(exist_ok=True)
    journal = MemoryJournal()
    return journal, fit(recipe, data, journal, folder, stop)


def answered(model: Any, inputs: np.ndarray, targets: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """(answers,) nats in float64 and hits, sequence by sequence and answer by answer."""
    nats, hits = [], []
    with torch.no_grad():
        for tokens, asked in zip(inputs, targets, strict=True):
            logits = model(torch.from_numpy(tokens)[None])[0].double()
            for place in np.flatnonzero(asked != IGNORED):
                nats.append(-F.log_softmax(logits[place], dim=0)[asked[place]])
                hits.append(int(logits[place].argmax()) == asked[place])
    return torch.stack(nats), np.array(hits)


# --- the loss of a step


def test_the_loss_is_the_mean_over_the_answers_of_a_step_however_it_is_split() -> None:
    recipe, data = made(MIXED)
    objective, model = make_objective(recipe, data), build_model(recipe)
    assert isinstance(objective, Answering)
    inputs, targets, _ = objective.batch(0)
    counts = (targets != IGNORED).sum(axis=1)
    assert set(counts.tolist()) == {1, 4}
    expected = answered(model, inputs, targets)[0].mean().item()
    batch = [torch.from_numpy(array) for array in objective.batch(0)]
    losses = objective.losses(model, *batch)
    assert losses.shape == (10,)
    assert losses.mean().item() == pytest.approx(expected, rel=1e-6)
    for piece in (1, 3, 5):
        parts = zip(*(tensor.split(piece) for tensor in batch), strict=True)
        split = sum(objective.losses(model, *part).sum() for part in parts) / 10
        assert split.item() == pytest.approx(expected, rel=1e-6), "what the module adds up"
    gradients = []
    for piece in (10, 3):
        model.zero_grad()
        for part in zip(*(tensor.split(piece) for tensor in batch), strict=True):
            (objective.losses(model, *part).sum() / 10).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    sequences = answered(model, inputs, targets)[0].split(counts.tolist())
    assert abs(torch.stack([nats.mean() for nats in sequences]).mean().item() - expected) > 1e-3, (
        "the mean over sequences is another number"
    )


@pytest.mark.parametrize("connection", [{"type": "residual"}, {"type": "hyper", "rate": 2}], ids=["residual", "dhc"])
def test_a_split_batch_trains_as_the_whole_one(connection: dict[str, Any], tmp_path: Path) -> None:
    whole_journal, whole = run(*made(MIXED, connection), tmp_path / "whole")
    for micro in (5, 3):
        journal, split = run(*made(MIXED, connection, micro_batch_size=micro), tmp_path / f"micro{micro}")
        assert journal.losses() == pytest.approx(whole_journal.losses(), rel=1e-5)
        assert split.digests == whole.digests
        for metric in ("validation/loss", "validation/accuracy"):
            assert split.metrics[metric] == pytest.approx(whole.metrics[metric], rel=1e-4)


@pytest.mark.parametrize("corpus", ["mqar", "brackets"])
def test_a_stopped_run_resumes_bit_for_bit(corpus: str, tmp_path: Path) -> None:
    keys = MIXED if corpus == "mqar" else {"corpus": "brackets", "kinds": 3, "depth": 3}
    recipe, data = made(keys, {"type": "frac", "rate": 2}, micro_batch_size=4, model={"dropout": 0.1})
    plain_journal, plain = run(recipe, data, tmp_path / "plain")
    asked = iter(range(100))
    with pytest.raises(StoppedError):
        run(recipe, data, tmp_path / "stopped", lambda: next(asked) == 7)
    journal, again = run(recipe, data, tmp_path / "stopped")
    assert journal.losses() == plain_journal.losses()[-len(journal.losses()) :]
    assert again.digests == plain.digests
    assert all(torch.equal(w, plain.model.state_dict()[name]) for name, w in again.model.state_dict().items())


def test_arms_of_a_seed_share_batches_held_out_sequences_and_weights_and_seeds_share_the_held_out(
    tmp_path: Path,
) -> None:
    digests = [
        run(*made(MIXED, connection, steps=3), tmp_path / str(i))[1].digests
        for i, connection in enumerate(
            ({"type": "residual"}, {"type": "hyper", "rate": 4}, {"type": "frac", "rate": 2})
        )
    ]
    assert digests[0] == digests[1] == digests[2]
    other = run(*made(MIXED, steps=3, seed=2), tmp_path / "other")[1].digests
    assert other["validation"] == digests[0]["validation"]
    assert other["batches"] != digests[0]["batches"]


# --- how a model is judged


@pytest.mark.parametrize("case", CASES)
def test_a_solver_is_always_right(case: str) -> None:
    data, context = symbols(case)
    model = Solver(data, context)
    recipe, _ = made(CASES[case][0], model={"context": context})
    judged = make_objective(recipe, data).judge(model, torch.device("cpu"), torch.no_grad)  # type: ignore[arg-type]
    assert judged == {"validation/loss": pytest.approx(0.0, abs=1e-12), "validation/accuracy": 1.0}
    scores = score_symbols(model, data, FEW)  # type: ignore[arg-type]
    assert scores.pop(f"eval/{data.name}/documents") == SEQUENCES * 12
    assert scores.pop(f"eval/{data.name}/loss") == pytest.approx(0.0, abs=1e-12)
    assert scores.pop(f"eval/{data.name}/acc_stderr") == 0.0
    assert set(scores.values()) == {1.0}
    kinds = {name.removeprefix(f"eval/{data.name}/acc").split("_")[1] for name in scores if "acc_" in name}
    assert kinds == {"mqar": {"pairs", "distance"}, "brackets": {"depth", "distance"}}.get(data.name, {"distance"})


def test_a_model_without_an_opinion_loses_the_log_of_the_vocabulary() -> None:
    recipe, data = made(MIXED)
    model = build_model(recipe).eval()
    torch.nn.init.zeros_(model.get_parameter("embedding.weight"))  # which unembeds too
    judged = make_objective(recipe, data).judge(model, torch.device("cpu"), torch.no_grad)
    assert judged == {"validation/loss": pytest.approx(math.log(16), rel=1e-6), "validation/accuracy": 0.0}
    scores = score_symbols(model, data, FEW)
    assert scores["eval/mqar/loss"] == pytest.approx(math.log(16), rel=1e-6)
    assert scores["eval/mqar/acc"] == 0.0, "the first of equals is token 0, which is no value"


def test_the_curve_and_the_scores_are_direct_counts() -> None:
    recipe, data = made(MIXED, micro_batch_size=3)
    objective, model = make_objective(recipe, data), build_model(recipe).eval()
    assert len(objective.held_out[0]) == 32, "640 tokens in sequences of 20"
    nats, hits = answered(model, *objective.held_out)
    judged = objective.judge(model, torch.device("cpu"), torch.no_grad)
    assert judged["validation/loss"] == pytest.approx(nats.mean().item(), rel=1e-6)
    assert judged["validation/accuracy"] == hits.mean()

    held = data.held_out(SEQUENCES * 12, 20)
    nats, hits = answered(model, held.inputs, held.targets)
    scores = score_symbols(model, data, FEW)
    assert 0 < hits.mean() < 1
    assert scores["eval/mqar/loss"] == pytest.approx(nats.mean().item(), rel=1e-6)
    assert scores["eval/mqar/acc"] == hits.mean()
    right = np.zeros(held.targets.shape, bool)
    right[held.targets != IGNORED] = hits
    for name, mask in slice_masks(held):
        assert scores[f"eval/mqar/acc_{name}"] == right[mask].mean()
    assert score(model, data, FEW).metrics == scores
    assert held.inputs[:32].tolist() == objective.held_out[0].tolist(), "the curve's are the first of them"


def test_the_standard_error_is_that_of_drawing_other_sequences() -> None:
    """Against the spread of the accuracy over many held-out sets, of a model that fails for some answers."""
    _, data = made(MIXED)
    model = Solver(data, 20, wrong=lambda token: token % 3 == 0)
    sequences = data.batch(0, seed=9, batch_size=120 * 400, context=20)
    asked = sequences.targets != IGNORED
    right = asked & (sequences.targets % 3 != 0)
    spread = np.std([right[i::400].sum() / asked[i::400].sum() for i in range(400)], ddof=1)
    scores = score_symbols(model, data, FEW)  # type: ignore[arg-type]
    assert scores["eval/mqar/acc"] == pytest.approx(right.sum() / asked.sum(), abs=5 * spread)
    assert scores["eval/mqar/acc_stderr"] == pytest.approx(spread, rel=0.15)


def test_as_many_sequences_are_scored_as_the_tier_says() -> None:
    recipe, data = made({"corpus": "copy", "symbols": 4}, model={"layers": 1, "width": 4, "context": 9})
    model = build_model(recipe).eval()
    counts = {
        tier: score_symbols(model, data, EvaluationSettings(tasks=(), tier=tier))["eval/copy/documents"]
        for tier in ("fast", "full")
    }
    assert counts == {"fast": 1000, "full": 10_000}


# --- what is learned


@pytest.mark.parametrize(
    ("data", "context", "steps", "least"),
    [
        ({"corpus": "copy", "symbols": 6, "place": "start"}, 20, 60, 0.95),
        ({"corpus": "mqar", "vocabulary": 8, "pairs": (2,)}, 12, 70, 0.95),
        ({"corpus": "brackets", "kinds": 4, "depth": 4}, 20, 80, 0.9),
        ({"corpus": "induction", "vocabulary": 12, "repeated": 8}, 20, 150, 0.8),
    ],
    ids=lambda value: value["corpus"] if isinstance(value, dict) else "",
)
def test_two_layers_learn_every_diagnostic(
    data: dict[str, Any], context: int, steps: int, least: float, tmp_path: Path
) -> None:
    """Far above what a guess is worth, and what an answer that only looks at the last token is."""
    recipe, made_of = made(
        data,
        model={"width": 64, "heads": 4, "context": context},
        steps=steps, batch_size=64, lr=4e-3, warmup_steps=10, validate_every=steps,
    )  # fmt: skip
    _, fitted = run(recipe, made_of, tmp_path / "x")
    accuracy = fitted.metrics["validation/accuracy"]
    assert accuracy > least
    assert 1 / made_of.settings.choices < 0.3
    scores = score_symbols(fitted.model, made_of, EvaluationSettings(tasks=(), limit=40))
    assert scores[f"eval/{made_of.name}/acc"] == pytest.approx(accuracy, abs=0.04)
