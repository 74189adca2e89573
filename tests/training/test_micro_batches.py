"""How a batch is split into micro-batches changes nothing but rounding: losses are sums over items divided once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_support import CONNECTIONS, MemoryJournal, fixed_corpus

from harness.models.cost import find_device
from harness.training import fit as fit_module
from harness.training.fit import Fitted, fit
from harness.training.meters import Throughput
from harness.training.objective import PIECE, LanguageModelling
from harness.training.recipe import build_model

BATCH = 10
SPLITS = (5, 4, 3, 1)  # 4 and 3 leave a smaller one at the end


def trained(recipe: Any, folder: Path) -> tuple[MemoryJournal, Fitted]:
    journal = MemoryJournal()
    folder.mkdir()
    return journal, fit(recipe, fixed_corpus(), journal, folder)


@pytest.mark.parametrize("name", ["residual", "dhc-n4"])
def test_a_split_batch_gives_the_losses_weights_and_costs_of_the_whole_one(
    name: str, recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also FLOPs and MFU: the seconds of a step and the chip are given, so MFU says what was counted in a step."""
    monkeypatch.setattr(Throughput, "seconds_per_step", lambda self: 1e-5)
    monkeypatch.setattr(fit_module, "_chip", lambda module: "NVIDIA H200")
    whole_journal, whole = trained(recipe(CONNECTIONS[name], batch_size=BATCH, steps=12), tmp_path / "whole")
    assert 0 < whole.metrics["cost/mfu"] < 1
    for micro in SPLITS:
        made = recipe(CONNECTIONS[name], batch_size=BATCH, micro_batch_size=micro, steps=12)
        journal, split = trained(made, tmp_path / f"micro{micro}")
        assert journal.losses() == pytest.approx(whole_journal.losses(), rel=2e-6)
        assert split.digests == whole.digests, "the batches of a step are the same ones"
        assert split.metrics["validation/loss"] == pytest.approx(whole.metrics["validation/loss"], rel=1e-5)
        for metric in ("cost/flops_per_token", "cost/training_flops", "cost/mfu", "cost/tokens_per_second"):
            assert split.metrics[metric] == whole.metrics[metric], metric
        assert split.metrics["cost/saved_activation_bytes"] < whole.metrics["cost/saved_activation_bytes"]
        lines = [values for kind, _, values in journal.lines if kind == "train"]
        assert lines[-1]["train/tokens"] == 12 * BATCH * made.model.context
        for line, other in zip(lines, (v for k, _, v in whole_journal.lines if k == "train"), strict=True):
            assert line["train/grad_norm"] == pytest.approx(other["train/grad_norm"], rel=1e-4)


def test_a_mean_of_the_micro_batches_means_would_be_another_number(recipe: Callable[..., Any]) -> None:
    """What the test above would not see if all examples were alike."""
    made = recipe(CONNECTIONS["residual"], batch_size=BATCH)
    objective, model = LanguageModelling(made, fixed_corpus()), build_model(made)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    losses = objective.losses(model, torch.from_numpy(objective.batch(0)[0])).mean(dim=1)
    means = torch.stack([part.mean() for part in losses.split(4)])
    assert abs(means.mean() - losses.mean()) > 1e-3


def test_dropout_differs_between_the_micro_batches_of_a_step(recipe: Callable[..., Any], tmp_path: Path) -> None:
    """With the same masks for every part, equal examples would have equal losses."""
    seen: list[float] = []
    made = recipe(CONNECTIONS["residual"], dropout=0.5, batch_size=2, micro_batch_size=1, steps=6)

    class Same(LanguageModelling):
        def batch(self, step: int) -> tuple[Any, ...]:
            return (np.repeat(super().batch(0)[0][:1], 2, axis=0),)

        def losses(self, model: Any, *batch: torch.Tensor) -> torch.Tensor:
            losses = super().losses(model, *batch)
            if model.training:
                seen.append(losses.mean().item())
            return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "make_objective", Same)
        trained(made, tmp_path / "x")
    parts = seen[-2 * 4 :]
    assert all(first != second for first, second in zip(parts[::2], parts[1::2], strict=True))


def test_a_stopped_run_with_micro_batches_resumes_bit_for_bit(recipe: Callable[..., Any], tmp_path: Path) -> None:
    from harness.training.fit import StoppedError

    made = recipe(CONNECTIONS["dhc-n4"], batch_size=6, micro_batch_size=4, steps=14, dropout=0.1)
    plain_journal, plain = trained(made, tmp_path / "plain")
    journal, folder = MemoryJournal(), tmp_path / "stopped"
    folder.mkdir()
    asked = iter(range(100))
    with pytest.raises(StoppedError):
        fit(made, fixed_corpus(), journal, folder, lambda: next(asked) == 6)
    again = fit(made, fixed_corpus(), journal, folder)
    assert journal.losses() == plain_journal.losses()
    assert again.digests == plain.digests
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, plain.model.state_dict()[name]), name


def test_held_out_loss_weighs_every_token_alike_with_a_ragged_last_piece(recipe: Callable[..., Any]) -> None:
    made = recipe(CONNECTIONS["residual"], validation_tokens=32 * (PIECE + 1))
    objective, model = LanguageModelling(made, fixed_corpus()), build_model(made).eval()
    assert len(objective.held_out[0]) == PIECE + 1
    objective.held_out[0][PIECE:] = 250  # an odd one, alone in its piece
    found = objective.judge(model, torch.device("cpu"), torch.no_grad)
    with torch.no_grad():
        losses = objective.losses(model, torch.from_numpy(objective.held_out[0])).double()
    assert found["validation/loss"] == pytest.approx(losses.mean().item(), rel=1e-7)
    ragged = (losses[:PIECE].mean() + losses[PIECE:].mean()).item() / 2
    assert abs(found["validation/loss"] - ragged) > 1e-3, "the mean of the pieces' means is told apart"


def test_the_routers_terms_are_those_of_a_step_and_not_of_its_parts(recipe: Callable[..., Any], tmp_path: Path) -> None:
    """The balance looks at what is together, so it differs a little; it must not be counted once for every part."""
    terms = {}
    for micro in (None, 2):
        made = recipe(CONNECTIONS["residual"], batch_size=8, micro_batch_size=micro, steps=5)
        made = dataclasses.replace(made, model=made.model.model_copy(update={"experts": 4}))
        journal, _ = trained(made, tmp_path / str(micro))
        terms[micro] = next(values for kind, step, values in journal.lines if (kind, step) == ("train", 5))
    for name in ("train/balance_loss", "train/router_z_loss"):
        assert terms[2][name] == pytest.approx(terms[None][name], rel=0.2)
        assert terms[2][name] != 0


def test_mfu_is_of_the_peak_of_its_precision(
    recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throughput, "seconds_per_step", lambda self: 1e-5)
    monkeypatch.setattr(fit_module, "_chip", lambda module: "NVIDIA H200")
    found = {
        precision: trained(recipe(CONNECTIONS["residual"], precision=precision, steps=5), tmp_path / precision)[
            1
        ].metrics
        for precision in ("fp32", "bf16")
    }
    chip = find_device("NVIDIA H200")
    assert chip is not None
    assert chip.bf16 is not None
    assert found["fp32"]["cost/mfu"] / found["bf16"]["cost/mfu"] == pytest.approx(chip.bf16 / chip.fp32)
    flops = found["bf16"]["cost/training_flops"] / 5
    assert found["bf16"]["cost/mfu"] == pytest.approx(flops / 1e-5 / chip.bf16)


def test_a_machine_that_is_not_in_the_table_has_no_mfu(recipe: Callable[..., Any], tmp_path: Path) -> None:
    assert "cost/mfu" not in trained(recipe(CONNECTIONS["residual"], steps=15), tmp_path / "x")[1].metrics
