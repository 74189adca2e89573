"""Models judged on synthetic diagnostics: which of the answers are right, in all and by what makes them hard."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.data.diagnostics import IGNORED
from harness.data.synthetic import Symbols, slice_masks
from harness.evaluation.settings import EvaluationSettings
from harness.models.decoder import token_losses
from harness.models.network import Network
from harness.models.settings import DecoderSettings

SEQUENCES = 10
"""Held-out sequences for every document that a task of text would have: 1000 in the fast tier. The first of them are
those of the curve."""

PIECE = 64


@torch.no_grad()
def answer(model: Network, inputs_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T) nats of the answers, 0 where nothing is asked; (B, T) whether the likeliest token is the answer."""
    logits = model(inputs_BT)
    return token_losses(logits, targets_BT), logits.argmax(dim=-1) == targets_BT


def score_symbols(model: Network, data: Symbols, settings: EvaluationSettings) -> dict[str, float]:
    """`eval/<name>/acc`, `acc_stderr` and `loss` over all answers, `documents`, and `acc_<slice>`. The standard error
    takes sequences for independent, not the answers of one."""
    assert isinstance(model.settings, DecoderSettings)
    device = next(model.parameters()).device
    documents = settings.documents(ours=True)
    assert documents is not None, "of ours there are as many as one draws"
    held = data.held_out(SEQUENCES * documents, model.settings.context)
    nats, parts = 0.0, []
    for start in range(0, len(held), PIECE):
        piece = held[start : start + PIECE]
        found, hits = answer(model, *(torch.from_numpy(array).to(device) for array in (piece.inputs, piece.targets)))
        nats += found.sum(dtype=torch.float64).item()
        parts.append(hits.cpu().numpy())
    right, asked = np.concatenate(parts), held.targets != IGNORED
    accuracy = right.sum() / asked.sum()
    # Of a ratio of sums over sequences.
    left = right.sum(axis=1) - accuracy * asked.sum(axis=1)
    error = (np.square(left).sum() * len(held) / (len(held) - 1)) ** 0.5 / asked.sum()
    scores = {"acc": accuracy, "acc_stderr": error, "loss": nats / asked.sum(), "documents": len(held)}
    scores |= {f"acc_{name}": right[mask].mean() for name, mask in slice_masks(held)}
    return {f"eval/{data.name}/{metric}": float(value) for metric, value in scores.items()}
