"""Training: exact resume, reproducibility, precision, divergence, validation, digests that prove pairing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_support import CONNECTIONS, MemoryJournal, fixed_corpus

from harness.data.batches import validation_windows
from harness.data.shards import shard
from harness.errors import DivergedError
from harness.models.decoder import Decoder, token_losses
from harness.training.fit import Fitted, StoppedError, fit
from harness.training.recipe import build_model

Make = Callable[..., Any]


def run(recipe: Any, folder: Path, stops: tuple[int, ...] = ()) -> tuple[MemoryJournal, Fitted]:
    """Train, stopping and starting again after the steps given."""
    journal = MemoryJournal()
    for last in stops:
        seen = iter(range(1, 10**6))
        start = journal.lines[-1][1] if journal.lines else 0
        with pytest.raises(StoppedError) as stopped:
            fit(recipe, fixed_corpus(), journal, folder, lambda s=start: s + next(seen) == last)  # noqa: B023
        assert stopped.value.step == last
    return journal, fit(recipe, fixed_corpus(), journal, folder)


def same_weights(a: Decoder, b: Decoder) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("name", ["residual", "dhc-n4", "sfc-m2", "dfc-m2"])
def test_a_run_stopped_and_resumed_twice_equals_an_undisturbed_one(name: str, recipe: Make, tmp_path: Path) -> None:
    made = recipe(CONNECTIONS[name], dropout=0.1)
    whole, fitted = run(made, tmp_path)
    (tmp_path / "other").mkdir()
    parts, resumed = run(made, tmp_path / "other", stops=(7, 13))
    assert parts.numbers() == whole.numbers()
    assert sum(kind == "diagnostics" for kind, *_ in whole.numbers()) == 2
    assert resumed.digests == fitted.digests
    assert same_weights(resumed.model, fitted.model)
    assert resumed.metrics["validation/loss"] == fitted.metrics["validation/loss"]
    assert (resumed.diagnostics, resumed.held_out) == (fitted.diagnostics, fitted.held_out)


def test_resume_is_exact_when_the_window_of_a_logged_mean_is_cut(recipe: Make, tmp_path: Path) -> None:
    made = recipe(CONNECTIONS["dfc-m2"], log_every=6)
    whole, _ = run(made, tmp_path)
    (tmp_path / "other").mkdir()
    parts, _ = run(made, tmp_path / "other", stops=(8,))
    assert parts.numbers() == whole.numbers()


def test_resume_in_bf16_is_exact_too(recipe: Make, tmp_path: Path) -> None:
    made = recipe(CONNECTIONS["dhc-n4"], precision="bf16")
    whole, fitted = run(made, tmp_path)
    (tmp_path / "other").mkdir()
    parts, resumed = run(made, tmp_path / "other", stops=(9,))
    assert parts.numbers() == whole.numbers()
    assert same_weights(resumed.model, fitted.model)


def test_a_run_whose_last_checkpoint_is_the_end_gives_its_result_without_training(recipe: Make, tmp_path: Path) -> None:
    made = recipe(CONNECTIONS["residual"])
    journal, fitted = run(made, tmp_path)
    again = fit(made, fixed_corpus(), journal, tmp_path)
    assert again.metrics["validation/loss"] == fitted.metrics["validation/loss"]
    assert again.diagnostics == fitted.diagnostics is not None
    assert again.held_out == fitted.held_out is not None
    assert again.digests == fitted.digests
    assert same_weights(again.model, fitted.model)


def test_arms_of_one_seed_share_weights_and_batches_and_other_seeds_do_not(recipe: Make, tmp_path: Path) -> None:
    digests = []
    for number, (name, seed) in enumerate([("residual", 1), ("dhc-n4", 1), ("dfc-m2", 1), ("residual", 2)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        digests.append(run(recipe(CONNECTIONS[name], seed=seed, steps=5), folder)[1].digests)
    assert digests[0] == digests[1] == digests[2]
    assert digests[3]["batches"] != digests[0]["batches"]
    assert digests[3]["shared_weights"] != digests[0]["shared_weights"]


def test_the_dropout_stream_moves_dropout_and_nothing_else(recipe: Make, tmp_path: Path) -> None:
    from dataclasses import replace

    made = recipe(CONNECTIONS["residual"], dropout=0.2, steps=5)
    other = replace(made, streams={**made.streams, "dropout": 99})
    first, fitted = run(made, tmp_path)
    (tmp_path / "other").mkdir()
    second, refitted = run(other, tmp_path / "other")
    assert first.losses() != second.losses()
    assert fitted.digests == refitted.digests


def test_a_loss_that_is_not_finite_names_its_step(recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"loss is (nan|inf) at step \d+"):
        run(recipe(CONNECTIONS["residual"], lr=1e18, warmup_steps=0, clip=0.0), tmp_path)


def test_validation_is_a_mean_over_tokens_and_bits_count_true_bytes(recipe: Make, tmp_path: Path) -> None:
    _, fitted = run(recipe(CONNECTIONS["dhc-n4"], validation_tokens=70 * 32), tmp_path)
    windows = torch.from_numpy(validation_windows(shard(fixed_corpus(), "valid").tokens, count=70, context=32))
    assert len(windows) % 32, "the last batch must be ragged for this test to mean something"
    with torch.no_grad():
        losses = torch.stack([token_losses(fitted.model(w[None, :-1]), w[None, 1:])[0] for w in windows]).double()
    size = int((windows[:, 1:] < 256).sum())
    assert fitted.metrics["validation/loss"] == pytest.approx(losses.mean().item(), rel=1e-6)
    assert fitted.metrics["validation/bits_per_byte"] == pytest.approx(
        losses.sum().item() / size / math.log(2), rel=1e-6
    )
    assert fitted.metrics["validation/perplexity"] == pytest.approx(math.exp(losses.mean().item()), rel=1e-6)


def test_training_lowers_the_loss_and_records_what_it_costs(recipe: Make, tmp_path: Path) -> None:
    made = recipe(CONNECTIONS["dhc-n4"], steps=40)
    journal, fitted = run(made, tmp_path)
    losses = journal.losses()
    assert losses[-1] < losses[0] - 1.0
    assert fitted.metrics["cost/parameters"] == sum(p.numel() for p in build_model(made).parameters())
    for name in ("tokens_per_second", "saved_activation_bytes", "peak_rss_bytes", "train_seconds"):
        assert fitted.metrics[f"cost/{name}"] > 0, name
    line = dict(journal.lines[0][2])
    assert line["train/lr"] == pytest.approx(2e-3 / 4)
    assert line["train/grad_norm"] > 0
