"""The branches of a decoder's block, each with its own norm inside. Axes: B batch, T time, D width, H heads,
W width of a head.

A branch is `transform(norm(x))`. Connections that put the norm elsewhere use the two by name; those that feed query,
key and value separately call a branch whose `inputs` is 3 with three tensors (`connections.base`).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.cache import KeyValues
from harness.models.settings import DecoderSettings


def make_norm(settings: DecoderSettings) -> nn.Module:
    """The norm of a branch or of the output, (..., D) to (..., D): RMSNorm, or LayerNorm with weight and bias, or
    without both."""
    if settings.norm_type == "rms_norm":
        return nn.RMSNorm(settings.width, eps=settings.norm_eps)
    affine = settings.norm_type == "layer_norm"
    return nn.LayerNorm(settings.width, eps=settings.norm_eps, elementwise_affine=affine)


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

    def forward(self, x_BHTW: Tensor, positions_BT: Tensor | None = None) -> Tensor:
        """`positions_BT` says where the tokens stand; by default one after another from 0."""
        T, half = x_BHTW.shape[-2], x_BHTW.shape[-1] // 2
        x = x_BHTW.to(torch.promote_types(x_BHTW.dtype, torch.float32))
        turned = torch.cat([x[..., half:], x[..., :half]], dim=-1)
        if positions_BT is None:
            return (x * self.cos[:T] + turned * self.sin[:T]).to(x_BHTW.dtype)
        cos, sin = self.cos[positions_BT].unsqueeze(1), self.sin[positions_BT].unsqueeze(1)
        return (x * cos + turned * sin).to(x_BHTW.dtype)


class Branch(nn.Module, ABC):
    """A sub-layer with its norm. All inputs go through the same norm."""

    inputs = 1
    """How many separate inputs it can take: 3 are query, key and value."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    @abstractmethod
    def transform(self, x_BTD: Tensor, *more_BTD: Any, **given: Any) -> Tensor:
        """The sub-layer without the norm of its inputs; `given` is what one forward pass has for all branches."""

    def forward(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        return self.transform(self.norm(x_BTD), *(self.norm(other) for other in more_BTD))

    def given(self, **given: Any) -> Given:
        """This branch for one forward pass, in which its transform gets `given` (a mask, a condition) besides."""
        return Given(self, given)


class Given:
    """A branch and what one forward pass gives it, in the form that connections ask of a branch."""

    def __init__(self, branch: Branch, given: dict[str, Any]):
        self.inputs, self.norm = branch.inputs, branch.norm
        self.transform: Callable[..., Tensor] = functools.partial(branch.transform, **given)

    def __call__(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        return self.transform(self.norm(x_BTD), *(self.norm(other) for other in more_BTD))


class DecoderBranch(Branch):
    """Where a decoder's branch has its norm: before everything, or after everything but dropout (the reordered norm of
    OLMo-2, arXiv 2501.00656). In the second case the transform ends with it and `norm` does nothing."""

    def __init__(self, settings: DecoderSettings):
        after = settings.norm_position == "after"
        super().__init__(nn.Identity() if after else make_norm(settings))
        self.out_norm = make_norm(settings) if after else nn.Identity()
        self.dropout = nn.Dropout(settings.dropout)

    def finish(self, out_BTD: Tensor) -> Tensor:
        """What the transform does last; in the dtype of `out_BTD`, although norms may answer in fp32 under autocast."""
        return self.dropout(self.out_norm(out_BTD).to(out_BTD.dtype))


class Attention(DecoderBranch):
    """Causal self-attention, with dropout on its output.

    Neighbouring heads of queries share one of keys and values where there are fewer of these (grouped-query attention,
    arXiv 2305.13245). Queries and keys are normed, if at all, over all their heads together and before positions turn
    them (arXiv 2501.00656, 2409.02060). With separate inputs each goes through its own part of `qkv`.
    """

    inputs = 3

    def __init__(self, settings: DecoderSettings, rotary: RotaryPositions):
        super().__init__(settings)
        width, keys = settings.width, settings.key_heads * settings.head_width
        self.head_width, self.sizes = settings.head_width, (width, keys, keys)
        self.qkv = nn.Linear(width, sum(self.sizes), bias=False)
        self.q_norm = nn.RMSNorm(width, eps=settings.norm_eps) if settings.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(keys, eps=settings.norm_eps) if settings.qk_norm else nn.Identity()
        self.out = nn.Linear(width, width, bias=False)
        self.rotary = rotary

    def transform(
        self,
        x_BTD: Tensor,
        *more_BTD: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """`mask`, boolean and (B, 1, T, S) with the queries' axis first, says what is seen; by default all that is not
        later. `positions`, (B, T), says where tokens stand; by default one after another. With a `cache`, whose slots
        are then the last axis of the mask, keys and values of earlier tokens are seen besides. Raises ValueError for
        two inputs."""
        if more_BTD:
            parts = zip((x_BTD, *more_BTD), self.qkv.weight.split(self.sizes), strict=True)
            q, k, v = (F.linear(x, weight) for x, weight in parts)
        else:
            q, k, v = self.qkv(x_BTD).split(self.sizes, dim=-1)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        q, k, v = (x.unflatten(-1, (-1, self.head_width)).transpose(1, 2) for x in (q, k, v))
        q, k = self.rotary(q, positions), self.rotary(k, positions)
        if cache is not None and positions is not None:
            k, v = cache.extend(self, k, v, positions)
        grouped = self.sizes[0] != self.sizes[1]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)
        return self.finish(self.out(mixed.transpose(1, 2).flatten(-2)))


class FeedForward(DecoderBranch):
    """SwiGLU (arXiv 2002.05202), with dropout on its output."""

    def __init__(self, settings: DecoderSettings):
        super().__init__(settings)
        self.gate_up = nn.Linear(settings.width, 2 * settings.hidden, bias=False)
        self.out = nn.Linear(settings.hidden, settings.width, bias=False)

    def transform(self, x_BTD: Tensor, **_: Any) -> Tensor:
        """Token by token: what attention is given is none of its business."""
        gate, up = self.gate_up(x_BTD).chunk(2, dim=-1)
        return self.finish(self.out(F.silu(gate) * up))
