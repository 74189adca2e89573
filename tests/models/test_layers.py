"""The two branches against formulas written out in float64, and the rotary positions."""

from __future__ import annotations

import torch
from connections_support import distance, normal, randomise
from torch import Tensor

from harness.models.layers import Attention, FeedForward, RotaryPositions
from harness.models.settings import DecoderSettings

SHAPE = DecoderSettings(layers=1, width=16, heads=2, context=8, ffn_width=12, norm_eps=1e-3, rope_theta=50.0)


def rms_normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + SHAPE.norm_eps).sqrt() * weight


def rotated(row: Tensor, position: int) -> Tensor:
    """Pair (i, i + half) as a complex number, turned by position * theta^(-2i / width) (RoFormer, section 3.2.2)."""
    half = len(row) // 2
    angle = position * SHAPE.rope_theta ** (-2 * torch.arange(half, dtype=torch.float64) / len(row))
    turned = torch.complex(row[:half], row[half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag])


def test_attention_is_the_softmax_of_turned_queries_and_keys_over_the_past() -> None:
    width = SHAPE.width // SHAPE.heads
    attention = Attention(SHAPE, RotaryPositions(width, SHAPE.context, SHAPE.rope_theta)).double()
    randomise(attention)
    x = normal(1, SHAPE.context, SHAPE.width, seed=1)
    q, k, v = (rms_normed(x[0], attention.norm.weight) @ attention.qkv.weight.T).split(SHAPE.width, dim=-1)
    rows = []
    for t in range(SHAPE.context):
        heads = []
        for head in range(SHAPE.heads):
            part = slice(head * width, (head + 1) * width)
            query = rotated(q[t, part], t)
            scores = torch.stack([query @ rotated(k[s, part], s) for s in range(t + 1)]) / width**0.5
            heads.append(scores.softmax(dim=0) @ v[: t + 1, part])
        rows.append(torch.cat(heads))
    expected = torch.stack(rows)[None] @ attention.out.weight.T
    assert distance(attention(x), expected) < 1e-6  # the table of angles is in fp32


def test_the_feed_forward_is_a_swiglu() -> None:
    branch = FeedForward(SHAPE).double()
    randomise(branch)
    x = normal(1, 3, SHAPE.width, seed=1)
    gate, up = (rms_normed(x, branch.norm.weight) @ branch.gate_up.weight.T).split(12, dim=-1)
    assert distance(branch(x), (gate / (1 + torch.exp(-gate)) * up) @ branch.out.weight.T) < 1e-12


def test_rotary_positions_make_products_depend_on_the_distance_alone() -> None:
    rotary, T = RotaryPositions(head_width=8, context=32, theta=10_000.0), 32
    q, k = normal(8, seed=1, dtype=torch.float32), normal(8, seed=2, dtype=torch.float32)
    products = rotary(q.expand(1, 1, T, 8))[0, 0] @ rotary(k.expand(1, 1, T, 8))[0, 0].T
    for offset in range(1 - T, T):
        diagonal = products.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0.0, atol=1e-5)
    assert (products[0, 1:] - products[0, 0]).abs().min() > 1e-3, "no position can be told from the first"
    torch.testing.assert_close(products[0, 0], q @ k)
    assert (products - products.T).abs().max() > 0.1, "before and after cannot be told apart"


def test_rotary_positions_keep_lengths_the_first_position_and_the_dtype() -> None:
    rotary, x = RotaryPositions(8, 32, 10_000.0), normal(1, 2, 32, 8, seed=1, dtype=torch.float32)
    turned = rotary(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[..., 0, :], x[..., 0, :])
    assert rotary(x.bfloat16()).dtype == torch.bfloat16
    assert not rotary.state_dict(), "tables belong in no checkpoint"
