"""The two branches of a block, each with its own pre-norm inside. Axes: B batch, T time, D width, H heads.

A branch is `transform(norm(x))`. Connections that put the norm elsewhere use the two by name; those that feed query,
key and value separately call a branch whose `inputs` is 3 with three tensors (`connections.base`).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.settings import DecoderSettings


class RotaryPositions(nn.Module):
    """Rotary position embedding (RoFormer, arXiv 2104.09864) on (B, H, T, D/H), pairs of halves, in fp32 at least."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_width: int, context: int, theta: float):
        super().__init__()
        frequency = theta ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
        angle = torch.outer(torch.arange(context, dtype=torch.float64), frequency)
        self.register_buffer("cos", torch.cat([angle.cos(), angle.cos()], dim=-1).float(), persistent=False)
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], dim=-1).float(), persistent=False)

    def forward(self, x_BHTW: Tensor) -> Tensor:
        T, half = x_BHTW.shape[-2], x_BHTW.shape[-1] // 2
        x = x_BHTW.to(torch.promote_types(x_BHTW.dtype, torch.float32))
        turned = torch.cat([x[..., half:], x[..., :half]], dim=-1)
        return (x * self.cos[:T] + turned * self.sin[:T]).to(x_BHTW.dtype)


class Branch(nn.Module, ABC):
    """A sub-layer with its norm. All inputs go through the same norm."""

    inputs = 1
    """How many separate inputs it can take: 3 are query, key and value."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    @abstractmethod
    def transform(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        """The sub-layer without its norm."""

    def forward(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        return self.transform(self.norm(x_BTD), *(self.norm(other) for other in more_BTD))

    def given(self, **given: Any) -> Given:
        """This branch for one forward pass, in which its transform gets `given` (a mask, a condition) besides."""
        return Given(self, given)


class Given:
    """A branch and what one forward pass gives it, in the form that connections ask of a branch."""

    def __init__(self, branch: Branch, given: dict[str, Any]):
        self.inputs, self.norm = branch.inputs, branch.norm
        self.transform = functools.partial(branch.transform, **given)

    def __call__(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        return self.transform(self.norm(x_BTD), *(self.norm(other) for other in more_BTD))


class Attention(Branch):
    """Causal self-attention of the normed input, with dropout on its output."""

    inputs = 3

    def __init__(self, settings: DecoderSettings, rotary: RotaryPositions):
        super().__init__(nn.RMSNorm(settings.width, eps=settings.norm_eps))
        self.heads = settings.heads
        self.qkv = nn.Linear(settings.width, 3 * settings.width, bias=False)
        self.out = nn.Linear(settings.width, settings.width, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        self.rotary = rotary

    def transform(self, x_BTD: Tensor, key_BTD: Tensor | None = None, value_BTD: Tensor | None = None) -> Tensor:
        if key_BTD is None or value_BTD is None:
            qkv = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1))
            q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each B, H, T, D/H
        else:
            q, k, v = (
                F.linear(x, weight).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for x, weight in zip((x_BTD, key_BTD, value_BTD), self.qkv.weight.chunk(3), strict=True)
            )
        mixed = F.scaled_dot_product_attention(self.rotary(q), self.rotary(k), v, is_causal=True)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(-2)))


class FeedForward(Branch):
    """SwiGLU (arXiv 2002.05202) of the normed input, with dropout on its output."""

    def __init__(self, settings: DecoderSettings):
        super().__init__(nn.RMSNorm(settings.width, eps=settings.norm_eps))
        self.gate_up = nn.Linear(settings.width, 2 * settings.hidden, bias=False)
        self.out = nn.Linear(settings.hidden, settings.width, bias=False)
        self.dropout = nn.Dropout(settings.dropout)

    def transform(self, x_BTD: Tensor) -> Tensor:
        gate, up = self.gate_up(x_BTD).chunk(2, dim=-1)
        return self.dropout(self.out(F.silu(gate) * up))
