"""The LightningModule: loss, optimiser, gradient norm."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from harness.models.network import Network
from harness.training.compiled import Compiled
from harness.training.objective import Objective
from harness.training.optim import lr_factor, make_optimizer
from harness.training.settings import TrainSettings


class Trained(pl.LightningModule):
    """A model with its objective and training recipe. What Lightning calls a batch is a micro-batch here: a step takes
    `settings.micro_batches` of them and has the loss and gradient of all their items together."""

    def __init__(self, model: Network, objective: Objective, settings: TrainSettings):
        super().__init__()
        self.model, self.objective, self.settings = model, objective, settings
        self.losses = Compiled(objective, model, settings)
        self.grad_norm: Tensor | None = None
        self.branch_grad_norms: Tensor | None = None
        """(K,), by branch, of the last step that a validation follows."""
        self.auxiliary: dict[str, Tensor] = {}
        self.host_batches: list[tuple[Tensor, ...]] = []
        self._clipped: list[nn.Parameter] = []

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes in this attribute which hook it is in, fifty times a step, and a module searches whatever it
        is given for parameters."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def on_before_batch_transfer(self, batch: tuple[Tensor, ...], dataloader_idx: int) -> tuple[Tensor, ...]:
        """Keep the batch where it was made: its digest must not make the device wait."""
        self.host_batches.append(batch)
        return batch

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> dict[str, Tensor]:
        """`task`: the micro-batch's part of the step's mean loss. `loss`: what is differentiated, besides that the
        model's own terms; Lightning divides it by the number of micro-batches, which are not all of one size."""
        task = self.losses(*batch).mean()
        share = len(batch[0]) / self.settings.batch_size
        terms = self.model.auxiliary_losses()
        self.auxiliary = {name: term.detach() * share + self.auxiliary.get(name, 0) for name, term in terms.items()}
        loss = task + sum(terms.values()) if terms else task
        return {"loss": loss * (share * self.settings.micro_batches), "task": task.detach() * share}

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.model, self.settings)
        self._clipped = list(self.model.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, self.settings))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip by norm and keep the norm as it was before; by branch too, where a validation follows."""
        if self.settings.validates(self.trainer.global_step + 1):
            self.branch_grad_norms = torch.stack([_grad_norm(branch) for branch in self.model.branches])
        limit = self.settings.clip or float("inf")
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self._clipped, limit)

    def judge(self) -> dict[str, float]:
        """The objective's held-out metrics, and what the model reports of itself on the same data (expert loads)."""
        training = self.training
        self.eval()
        self.model.reset_readings()
        with torch.no_grad():
            metrics = self.objective.judge(self.model, self.device, self.trainer.precision_plugin.forward_context)
        self.train(training)
        return {**metrics, **self.model.readings()}


def _grad_norm(branch: nn.Module) -> Tensor:
    """Norm of the gradient of all its parameters; NaN where none has one."""
    gradients = [parameter.grad for parameter in branch.parameters() if parameter.grad is not None]
    if gradients:
        return torch.nn.utils.get_total_norm(gradients)
    return torch.full((), float("nan"), device=next(branch.parameters()).device)
