"""What happens after a training step, in one order: count, log, validate, save, stop.

A checkpoint therefore never precedes a journal line that belongs before it, which is what makes a resumed run equal to
an undisturbed one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from harness.data.batches import FIRST_DIGEST, chain_digest
from harness.errors import DivergedError
from harness.training.meters import Throughput, saved_activation_bytes
from harness.training.module import Trained
from harness.training.optim import lr_factor
from harness.training.recipe import Recipe


class Journal(Protocol):
    """Where a run writes its curve."""

    def write(self, kind: str, step: int, values: dict[str, float]) -> None: ...
    def sync(self) -> None: ...
    def rewind(self, step: int) -> None: ...


class Keeper(pl.Callback):
    """After every step, in this order: count, log, validate, save, stop."""

    def __init__(
        self,
        recipe: Recipe,
        journal: Journal,
        checkpoint: Path,
        stop: Callable[[], bool],
    ):
        self.recipe, self.settings, self.journal = recipe, recipe.train, journal
        self.checkpoint, self.stop = checkpoint, stop
        self.tokens_per_step = recipe.train.batch_size * recipe.model.positions(recipe.inputs)
        self.saved_bytes = 0
        self.throughput = Throughput()
        self.batch_digest = FIRST_DIGEST
        self.losses: list[Tensor] = []
        """Of the steps since the last logged one."""
        self._parts: list[Tensor] = []
        """Of the micro-batches of this step so far."""
        self.auxiliary: dict[str, Tensor] = {}
        self.last: dict[str, float] = {}
        self.expert_loads: list[list[float]] | None = None
        """Of the last validation, layer by layer."""
        self.stopped_at: int | None = None
        self.seconds_before = 0.0
        self._began = self._window_began = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        return {
            "batch_digest": self.batch_digest,
            "losses": [loss.item() for loss in self.losses],
            "last": self.last,
            "throughput": self.throughput.state(),
            "saved_bytes": self.saved_bytes,
            "expert_loads": self.expert_loads,
            "seconds": self.seconds_before + time.perf_counter() - self._began,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batch_digest, self.last = state["batch_digest"], state["last"]
        self.losses = [torch.tensor(loss, dtype=torch.float32) for loss in state["losses"]]
        self.throughput.restore(state["throughput"])
        self.saved_bytes, self.expert_loads = state["saved_bytes"], state["expert_loads"]
        self.seconds_before = state["seconds"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Trained)
        with trainer.precision_plugin.forward_context():
            piece = self.settings.micro_batch_size or self.settings.batch_size
            batch = [torch.from_numpy(array[:piece]).to(module.device) for array in module.objective.batch(0)]
            self.saved_bytes = saved_activation_bytes(module.model, batch, module.objective.losses)
        module.model.auxiliary_losses()  # or they would keep that pass's graph beside the first step's
        self._began = self._window_began = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        # Dropout of step s is a function of (dropout seed, s), like its batch; no random state has to be saved.
        if not self._parts:
            torch.manual_seed((self.recipe.streams["dropout"] + trainer.global_step) % 2**63)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        assert isinstance(module, Trained)
        self._parts.append(outputs["task"])
        if len(self._parts) < self.settings.micro_batches:
            return
        step = trainer.global_step
        whole = [np.concatenate([part.numpy() for part in parts]) for parts in zip(*module.host_batches, strict=True)]
        self.batch_digest = chain_digest(self.batch_digest, tuple(whole))
        self.losses.append(self._parts[0] if len(self._parts) == 1 else torch.stack(self._parts).sum())
        self.auxiliary = module.auxiliary
        self._parts, module.host_batches, module.auxiliary = [], [], {}
        last = step == self.settings.steps
        if step % self.settings.log_every == 0 or last:
            self._log(module, step)
        if step % self.settings.validate_every == 0 or last:
            self._validate(module, step)
        stopping = self.stop() and not last
        if step % self.settings.checkpoint_every == 0 or last or stopping:
            self._save(trainer)
        if stopping:
            self.stopped_at = step
            trainer.should_stop = True

    def _log(self, module: Trained, step: int) -> None:
        # On CUDA the device is waited for here, once a window; a resumed run has some losses on the CPU.
        losses = torch.stack([loss.to(self.losses[-1].device) for loss in self.losses]).tolist()
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise DivergedError(step - len(losses) + 1 + offset, loss)
        elapsed = time.perf_counter() - self._window_began
        self.throughput.add(len(losses), elapsed)
        assert module.grad_norm is not None
        values = {
            "train/loss": math.fsum(losses) / len(losses),
            "train/lr": self.settings.lr * lr_factor(step - 1, self.settings),
            "train/grad_norm": module.grad_norm.item(),
            "train/tokens_per_second": self.tokens_per_step * len(losses) / elapsed,
            "train/tokens": float(self.tokens_per_step * step),
        }
        values.update({f"train/{name}_loss": term.item() for name, term in self.auxiliary.items()})
        self.journal.write("train", step, values)
        self.losses = []
        self._window_began = time.perf_counter()

    def _validate(self, module: Trained, step: int) -> None:
        pause = time.perf_counter()
        self.last = module.judge()
        loads = module.model.expert_loads()
        self.expert_loads = None if loads is None else loads.tolist()
        if not math.isfinite(self.last["validation/loss"]):
            raise DivergedError(step, self.last["validation/loss"])
        self.journal.write("validation", step, self.last)
        self._window_began += time.perf_counter() - pause

    def _save(self, trainer: pl.Trainer) -> None:
        pause = time.perf_counter()
        self.journal.sync()  # first the journal: a checkpoint must not know more than the journal does
        temporary = self.checkpoint.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.checkpoint)
        self._window_began += time.perf_counter() - pause
