"""What happens after a training step, in one order: count, log, validate, save, stop.

A checkpoint therefore never precedes a journal line that belongs before it, which is what makes a resumed run equal to
an undisturbed one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from harness.data.batches import FIRST_DIGEST, Batch, chain_digest
from harness.errors import DivergedError
from harness.training.diagnose import DIAGNOSTICS, Depth, Diagnosis, Values
from harness.training.meters import Throughput, saved_activation_bytes
from harness.training.module import Trained
from harness.training.objective import EXAMPLE_TOKENS
from harness.training.optim import lr_factor
from harness.training.recipe import Recipe
from harness.training.stability import Spikes


def seed_generators(seed: int, device: torch.device) -> None:
    """What `torch.manual_seed` does for the CPU and for `device`. That one keeps the call for every backend that is not
    there, each with the stack as text, which from here takes more than a millisecond."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def settled(device: torch.device) -> float:
    """The moment when a pause begins: the steps that a device still has to do are training."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Journal(Protocol):
    """Where a run writes its curve."""

    def write(self, kind: str, step: int, values: dict[str, float], **extra: Any) -> None: ...
    def sync(self) -> None: ...
    def rewind(self, step: int) -> None: ...


def _whole(parts: Sequence[tuple[Tensor, ...]]) -> Batch:
    """The batch of a step from those of its micro-batches."""
    if len(parts) == 1:
        return tuple(tensor.numpy() for tensor in parts[0])
    return tuple(np.concatenate([part.numpy() for part in each]) for each in zip(*parts, strict=True))


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
        """Of the steps since the last logged one, as are the norms of the gradients, before clipping."""
        self.grad_norms: list[Tensor] = []
        self._counted = 0  # of these steps, how many the spikes know
        self.spikes = {"loss": Spikes(), "gradient": Spikes()}
        self.diagnosis = Diagnosis(recipe.connection.type)
        self.end: dict[str, Any] | None = None
        """Diagnostics of the trained model."""
        self.held_out: dict[str, Any] | None = None
        """Losses of the trained model on every held-out item."""
        self._parts: list[Tensor] = []
        """Of the micro-batches of this step so far."""
        self.auxiliary: dict[str, Tensor] = {}
        self.last: dict[str, float] = {}
        self.expert_loads: list[list[float]] | None = None
        """Of the last validation, layer by layer."""
        self.stopped_at: int | None = None
        self.compile_seconds: float | None = None
        """Of all processes that trained; None for a model that is not compiled."""
        self.seconds_before = 0.0
        self._began = self._window_began = time.perf_counter()

    def seconds(self) -> float:
        """Of training so far, in all processes, without what goes before the first step: compiling and the like."""
        return self.seconds_before + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {
            "batch_digest": self.batch_digest,
            "losses": [loss.item() for loss in self.losses],
            "last": self.last,
            "throughput": self.throughput.state(),
            "saved_bytes": self.saved_bytes,
            "expert_loads": self.expert_loads,
            "seconds": self.seconds(),
            "compile_seconds": self.compile_seconds,
            "diagnostics": {
                "grad_norms": [norm.item() for norm in self.grad_norms],
                "counted": self._counted,
                "spikes": {name: spikes.state() for name, spikes in self.spikes.items()},
                "end": self.end,
                "held_out": self.held_out,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batch_digest, self.last = state["batch_digest"], state["last"]
        self.losses = [torch.tensor(loss, dtype=torch.float32) for loss in state["losses"]]
        self.throughput.restore(state["throughput"])
        self.saved_bytes, self.expert_loads = state["saved_bytes"], state["expert_loads"]
        self.seconds_before, self.compile_seconds = state["seconds"], state.get("compile_seconds")
        if (kept := state.get("diagnostics")) is not None:  # checkpoints of before there were any
            self.grad_norms = [torch.tensor(norm, dtype=torch.float32) for norm in kept["grad_norms"]]
            self._counted, self.end, self.held_out = kept["counted"], kept["end"], kept["held_out"]
            for name, spikes in self.spikes.items():
                spikes.restore(kept["spikes"][name])

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Trained)
        precision, host = trainer.precision_plugin.forward_context, module.objective.batch(0)
        pieces = [
            [torch.from_numpy(array[:size]).to(module.device) for array in host] for size in self.settings.piece_sizes
        ]
        with precision():
            self.saved_bytes = saved_activation_bytes(module.model, pieces[0], module.objective.losses)
        module.model.auxiliary_losses()  # or they would keep that pass's graph beside the first step's
        module.losses.prepare(pieces, precision)
        if module.losses.seconds is not None:
            self.compile_seconds = (self.compile_seconds or 0.0) + module.losses.seconds
        self._began = self._window_began = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        # Dropout of step s is a function of (dropout seed, s), like its batch; no random state has to be saved.
        if not self._parts:
            seed_generators((self.recipe.streams["dropout"] + trainer.global_step) % 2**63, module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        assert isinstance(module, Trained)
        self._parts.append(outputs["task"])
        if len(self._parts) < self.settings.micro_batches:
            return
        step = trainer.global_step
        self.batch_digest = chain_digest(self.batch_digest, _whole(module.host_batches))
        self.losses.append(self._parts[0] if len(self._parts) == 1 else torch.stack(self._parts).sum())
        assert module.grad_norm is not None
        self.grad_norms.append(module.grad_norm)
        self.auxiliary = module.auxiliary
        self._parts, module.host_batches, module.auxiliary = [], [], {}
        last = step == self.settings.steps
        if step % self.settings.log_every == 0 or last:
            self._log(module, step)
        if self.settings.validates(step):
            self._validate(trainer, module, step)
        stopping = self.stop() and not last
        if step % self.settings.checkpoint_every == 0 or last or stopping:
            self._save(trainer, module)
        if stopping:
            self.stopped_at = step
            trainer.should_stop = True

    def _log(self, module: Trained, step: int) -> None:
        # On CUDA the device is waited for here, once a window; a resumed run has some losses on the CPU.
        losses, norms = self._count_spikes()
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise DivergedError(step - len(losses) + 1 + offset, loss)
        elapsed = time.perf_counter() - self._window_began
        self.throughput.add(len(losses), elapsed)
        values = {
            "train/loss": math.fsum(losses) / len(losses),
            "train/lr": self.settings.lr * lr_factor(step - 1, self.settings),
            "train/grad_norm": norms[-1],
            "train/grad_norm_max": max(norms),
            "train/tokens_per_second": self.tokens_per_step * len(losses) / elapsed,
            "train/tokens": float(self.tokens_per_step * step),
        }
        values.update({f"train/{name}_loss": term.item() for name, term in self.auxiliary.items()})
        self.journal.write("train", step, values)
        self.losses, self.grad_norms, self._counted = [], [], 0
        self._window_began = time.perf_counter()

    def _count_spikes(self) -> tuple[list[float], list[float]]:
        """Losses and gradient norms since the last logged step; the spikes among them are counted, each once."""
        losses, norms = (
            torch.stack([one.to(kept[-1].device) for one in kept]).tolist() if kept else []
            for kept in (self.losses, self.grad_norms)
        )
        for name, found in (("loss", losses), ("gradient", norms)):
            for one in found[self._counted :]:
                self.spikes[name].add(one)
        self._counted = len(losses)
        return losses, norms

    def _validate(self, trainer: pl.Trainer, module: Trained, step: int) -> None:
        pause = settled(module.device)
        self._count_spikes()
        # Before the model is judged, which begins the experts' tallies anew.
        values, depth = self._diagnose(trainer, module, step)
        self.last = module.judge()
        loads = module.model.expert_loads()
        self.expert_loads = None if loads is None else loads.tolist()
        if not math.isfinite(self.last["validation/loss"]):
            raise DivergedError(step, self.last["validation/loss"])
        self.journal.write("validation", step, self.last)
        self.journal.write(DIAGNOSTICS, step, values, depth=depth)
        if step == self.settings.steps:
            objective = module.objective
            self.held_out = {"unit": objective.unit, "items": objective.items}
            self.held_out |= {"losses": objective.judged, "sizes": objective.sizes()}
        self._window_began += time.perf_counter() - pause

    def _diagnose(self, trainer: pl.Trainer, module: Trained, step: int) -> tuple[Values, Depth]:
        examples = module.objective.examples(module.device)

        def run() -> None:
            with trainer.precision_plugin.forward_context():
                module.model(*examples)

        last = step == self.settings.steps
        tokens = len(examples[0]) * min(self.recipe.model.positions(self.recipe.inputs), EXAMPLE_TOKENS)
        values, depth, self.end = self.diagnosis(module.model, run, module.branch_grad_norms, tokens=tokens, whole=last)
        shares = {f"stability/{name}_spikes": spikes.share() for name, spikes in self.spikes.items()}
        return {**values, **{name: share for name, share in shares.items() if share is not None}}, depth

    def _save(self, trainer: pl.Trainer, module: Trained) -> None:
        pause = settled(module.device)
        self.journal.sync()  # first the journal: a checkpoint must not know more than the journal does
        temporary = self.checkpoint.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.checkpoint)
        self._window_began += time.perf_counter() - pause
