"""AdamW with groups by parameter name, and the learning-rate schedule."""

from __future__ import annotations

import math

import torch

from harness.models.network import Network
from harness.training.settings import TrainSettings


def parameter_groups(model: Network, weight_decay: float) -> list[dict[str, object]]:
    """Two groups, decayed and not; each carries its parameters' names under `names`."""
    groups: list[dict[str, object]] = []
    for decay in (True, False):
        named = [(name, p) for name, p in model.named_parameters() if model.decays(name) == decay]
        groups.append(
            {
                "params": [parameter for _, parameter in named],
                "names": [name for name, _ in named],
                "weight_decay": weight_decay if decay else 0.0,
            }
        )
    return groups


def make_optimizer(model: Network, settings: TrainSettings) -> torch.optim.AdamW:
    groups = [
        {key: value for key, value in group.items() if key != "names"}
        for group in parameter_groups(model, settings.weight_decay)
    ]
    # One kernel for all parameters, on CPU too: a deep and thin model has hundreds of small ones.
    return torch.optim.AdamW(
        groups, lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True
    )


def lr_factor(step: int, settings: TrainSettings) -> float:
    """Learning rate of step 0, 1, ... as a share of the peak: linear warm-up whose last step is the peak, then a
    cosine that reaches `min_lr_ratio` on the last step."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    last = max(settings.steps - 1 - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / last, 1.0)
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
