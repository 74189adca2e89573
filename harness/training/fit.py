"""Train one model from its recipe: Lightning's Trainer with a journal, exact resume and a polite stop."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from harness.data.batches import FIRST_DIGEST, chain_digest
from harness.data.load import Data
from harness.models import cost
from harness.models.network import Network
from harness.training.keeper import Journal, Keeper
from harness.training.memory import keep_freed_memory
from harness.training.meters import peak_memory
from harness.training.module import Trained
from harness.training.objective import Objective, make_objective
from harness.training.recipe import Recipe, build_model, device_of
from harness.training.settings import CHECKPOINT, TrainSettings


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A finished run: the model in evaluation mode, and its last numbers."""

    model: Network
    metrics: dict[str, float]
    digests: dict[str, str]
    expert_loads: list[list[float]] | None
    """Shares of the experts, layer by layer, in the last validation; None without experts."""
    diagnostics: dict[str, Any] | None
    """Of the connections at the end: matrices and patterns; None for a type that cannot be diagnosed."""
    held_out: dict[str, Any] | None
    """Losses of every held-out item in the last validation."""


class StoppedError(Exception):
    """Training was asked to stop; the checkpoint of `step` is on disk."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


def fit(
    recipe: Recipe,
    data: Data,
    journal: Journal,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train to the last step, from the checkpoint in `folder` when there is one.

    Raises StoppedError when `stop()` turns true between steps, DivergedError for a loss that is not finite.
    """
    settings = recipe.train
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    objective = make_objective(recipe, data)
    model = build_model(recipe)
    init_digest = model.backbone_digest()
    module = Trained(model, objective, settings)
    checkpoint = folder / CHECKPOINT
    start = _checkpoint_step(checkpoint)
    journal.rewind(start)
    keeper = Keeper(recipe, journal, checkpoint, stop)
    trainer = _trainer(settings, keeper)
    with _Quiet():
        trainer.fit(
            module,
            _Batches(objective, start, settings),
            ckpt_path=checkpoint if start else None,
            weights_only=True if start else None,
        )
    if keeper.stopped_at is not None:
        raise StoppedError(keeper.stopped_at)
    metrics = {
        **keeper.last,
        **_costs(recipe),
        "cost/saved_activation_bytes": float(keeper.saved_bytes),
        "cost/train_seconds": keeper.seconds(),
        **{f"cost/{name}": value for name, value in peak_memory().items()},
    }
    if keeper.compile_seconds is not None:
        metrics["cost/compile_seconds"] = keeper.compile_seconds
    seconds = keeper.throughput.seconds_per_step()
    if seconds is not None:
        metrics["cost/tokens_per_second"] = keeper.tokens_per_step / seconds
        share = cost.mfu(
            recipe.model,
            recipe.connection,
            recipe.inputs,
            examples_per_second=settings.batch_size / seconds,
            device_name=_chip(trainer.strategy.root_device),
            precision=settings.precision,
        )
        if share is not None:  # a chip without an entry has no MFU rather than a guessed one
            metrics["cost/mfu"] = share
    digests = {
        "batches": keeper.batch_digest,
        "validation": chain_digest(FIRST_DIGEST, objective.held_out),
        "shared_weights": init_digest,
    }
    return Fitted(
        model=model.eval(),
        metrics=metrics,
        digests=digests,
        expert_loads=keeper.expert_loads,
        diagnostics=keeper.end,
        held_out=keeper.held_out,
    )


def _chip(device: torch.device) -> str:
    """The name of what was trained on, as the table of chips knows it; CPUs are not in it. (Of Lightning's strategy:
    the module itself is on the CPU again by then.)"""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _costs(recipe: Recipe) -> dict[str, float]:
    """The formulas' side of the cost column."""
    shape = recipe.model, recipe.connection, recipe.inputs
    count, examples = cost.parameters(*shape), recipe.train.steps * recipe.train.batch_size
    return {
        "cost/parameters": float(count.total),
        "cost/active_parameters": float(count.active),
        "cost/connection_parameters": float(count.connection),
        "cost/flops_per_token": float(cost.forward_flops_per_token(*shape)),
        "cost/training_flops": float(cost.training_flops(*shape) * examples),
    }


class _Batches:
    """The loader that Lightning iterates: sized, without workers, from the step where training stands."""

    def __init__(self, objective: Objective, start: int, settings: TrainSettings):
        self.objective, self.start, self.settings = objective, start, settings
        # From other memory a copy to the device waits until that has done all it was given: once a step.
        self.pinned = device_of(settings).type == "cuda"

    def __len__(self) -> int:
        return self.settings.steps * self.settings.micro_batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        piece = self.settings.micro_batch_size or self.settings.batch_size
        for step in range(self.start, self.settings.steps):
            batch = [torch.from_numpy(array) for array in self.objective.batch(step)]
            if self.pinned:
                batch = [tensor.pin_memory() for tensor in batch]
            for first in range(0, self.settings.batch_size, piece):
                yield tuple(tensor[first : first + piece] for tensor in batch)


def _checkpoint_step(path: Path) -> int:
    if not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])


def _trainer(settings: TrainSettings, keeper: pl.Callback) -> pl.Trainer:
    precisions: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed"}
    with _Quiet():
        return pl.Trainer(
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[settings.device],
            devices=1,
            precision=precisions[settings.precision],
            max_steps=settings.steps,
            accumulate_grad_batches=settings.micro_batches,
            max_epochs=-1,
            callbacks=[keeper],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )


class _Quiet(warnings.catch_warnings):
    """Lightning's advice on loaders with workers and its banner are not for the reader of a suite's log."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", module="lightning")
        for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        return entered
