"""What the models of images share: patches as tokens, and branches with biases around a norm of the model's choice.

Axes: B batch, C channels, S image side, T tokens, D width, P numbers in a patch (C · patch · patch), H heads.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.layers import Branch
from harness.models.settings import PatchSettings


def to_patches(images_BCSS: Tensor, patch: int) -> Tensor:
    """(B, T, P): patches row by row, in each the channels, and of a channel the pixels row by row. A linear map of
    these is a convolution whose stride is its kernel (arXiv 2010.11929, Eq. 1). Raises RuntimeError where `patch`
    does not divide the side."""
    tiles = images_BCSS.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # B, C, row, y, column, x
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(-3).flatten(1, 2)


def from_patches(patches_BTP: Tensor, patch: int, channels: int) -> Tensor:
    """(B, C, S, S): what `to_patches` takes apart. Raises RuntimeError where the patches fill no square."""
    side = round(patches_BTP.shape[1] ** 0.5)
    tiles = patches_BTP.unflatten(-1, (channels, patch, patch)).unflatten(1, (side, side))
    return tiles.permute(0, 3, 1, 4, 2, 5).flatten(-2).flatten(-3, -2)


class PatchAttention(Branch):
    """Self-attention in which every token sees all, with dropout on its output.

    With separate inputs each goes through its own third of `qkv`. Queries and keys are normed, if at all, over all
    heads together.
    """

    inputs = 3

    def __init__(self, settings: PatchSettings, norm: nn.Module):
        super().__init__(norm)
        width = settings.width
        self.heads = settings.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width, eps=settings.norm_eps) if settings.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(width, eps=settings.norm_eps) if settings.qk_norm else nn.Identity()
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def transform(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        if more_BTD:
            thirds = zip((x_BTD, *more_BTD), self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True)
            q, k, v = (F.linear(x, weight, bias) for x, weight, bias in thirds)
        else:
            q, k, v = self.qkv(x_BTD).chunk(3, dim=-1)
        heads = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.q_norm(q), self.k_norm(k), v))
        mixed = F.scaled_dot_product_attention(*heads)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(-2)))


class PatchFeedForward(Branch):
    """GELU between two linear maps, with dropout on the output."""

    approximate: Literal["none", "tanh"] = "none"
    """The exact GELU, or the one by tanh."""

    def __init__(self, settings: PatchSettings, norm: nn.Module):
        super().__init__(norm)
        self.up = nn.Linear(settings.width, settings.hidden)
        self.out = nn.Linear(settings.hidden, settings.width)
        self.dropout = nn.Dropout(settings.dropout)

    def transform(self, x_BTD: Tensor) -> Tensor:
        return self.dropout(self.out(F.gelu(self.up(x_BTD), approximate=self.approximate)))
