"""A training step as it is timed: batch, forward and backward, clipping, optimiser and schedule, without a Trainer."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from harness.data.batches import Batch
from harness.data.load import Data
from harness.models.network import Network
from harness.training.compiled import Compiled
from harness.training.memory import keep_freed_memory
from harness.training.meters import saved_activation_bytes
from harness.training.objective import make_objective
from harness.training.optim import lr_factor, make_optimizer
from harness.training.recipe import Recipe, build_model


class Work(Protocol):
    """What a step needs of an objective."""

    def batch(self, step: int) -> Batch: ...

    def losses(self, model: Network, *batch: Tensor) -> Tensor: ...


class Stepper:
    """Model, objective and optimiser of a recipe, made once, and steps of its training, one after another. The model
    learns as it does in `fit`; Lightning's own part of a step, a millisecond or two, is not in it."""

    def __init__(self, recipe: Recipe, objective: Work, model: Network, device: torch.device):
        self.settings, self.device = recipe.train, device
        torch.set_num_threads(recipe.train.threads)
        keep_freed_memory()
        self.objective, self.model = objective, model.to(device)
        self.optimizer = make_optimizer(self.model, recipe.train)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: lr_factor(step, self.settings))
        self.piece = recipe.train.micro_batch_size or recipe.train.batch_size
        self.positions = recipe.train.batch_size * recipe.model.positions(recipe.inputs)
        """Tokens of a step."""
        self.steps = 0
        """Done so far."""
        self.losses = Compiled(objective, self.model, recipe.train)
        if recipe.train.compile:
            self.losses.prepare([self._part(objective.batch(0))], self._precision)

    @classmethod
    def of(cls, recipe: Recipe, data: Data, device: torch.device) -> Stepper:
        """Of what the recipe trains, on these data."""
        return cls(recipe, make_objective(recipe, data), build_model(recipe), device)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def saved_bytes(self) -> int:
        """What one micro-batch keeps for its backward pass (`meters.saved_activation_bytes`), as it runs: compiled, or
        not."""
        part = self._part(self.objective.batch(0))
        with self._precision():
            size = saved_activation_bytes(self.model, part, lambda _, *batch: self.losses(*batch))
        self.model.auxiliary_losses()  # or they would keep that pass's graph
        return size

    def seconds(self, count: int) -> float:
        """Mean seconds of the next `count` steps. Of several micro-batches one is run and counts for all of them; a
        device is waited for before and after, and around that micro-batch only where it does."""
        torch.set_num_threads(self.settings.threads)
        pieces = self.settings.batch_size / self.piece
        passes = 0.0
        began = self._now()
        for _ in range(count):
            batch = self.objective.batch(self.steps)
            before = self._now() if pieces > 1 else 0.0
            self._pass(batch)
            passes += self._now() - before if pieces > 1 else 0.0
            self._update()
            self.steps += 1
        return (self._now() - began + (pieces - 1) * passes) / count

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _part(self, batch: Batch) -> list[Tensor]:
        return [torch.from_numpy(array[: self.piece]).to(self.device) for array in batch]

    def _pass(self, batch: Batch) -> None:
        with self._precision():
            loss = self.losses(*self._part(batch)).mean()
            loss = loss + sum(self.model.auxiliary_losses().values())
        loss.backward()

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
