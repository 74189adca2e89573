"""The branches against formulas written out in float64, in every form of norms and heads, and the rotary positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from connections_support import distance, normal, randomise
from torch import Tensor

from harness.models.layers import Attention, FeedForward, RotaryPositions
from harness.models.settings import DecoderSettings

SHAPE = DecoderSettings(layers=1, width=16, heads=4, context=8, ffn_width=12, norm_eps=1e-3, rope_theta=50.0)
NORMS = ["rms_norm", "layer_norm", "layer_norm_no_affine"]
Names = dict[str, Tensor]


def rms_normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + SHAPE.norm_eps).sqrt() * weight


def layer_normed(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    normed = centred / (centred.square().mean(dim=-1, keepdim=True) + SHAPE.norm_eps).sqrt()
    return normed if weight is None or bias is None else normed * weight + bias


def normed(settings: DecoderSettings, name: str, x: Tensor, names: Names) -> Tensor:
    """x through the branch's norm `name` as the settings have it."""
    if settings.norm_type == "rms_norm":
        return rms_normed(x, names[f"{name}.weight"])
    return layer_normed(x, names.get(f"{name}.weight"), names.get(f"{name}.bias"))


def rotated(row: Tensor, position: int) -> Tensor:
    """Pair (i, i + half) as a complex number, turned by position * theta^(-2i / width) (RoFormer, section 3.2.2)."""
    half = len(row) // 2
    angle = position * SHAPE.rope_theta ** (-2 * torch.arange(half, dtype=torch.float64) / len(row))
    turned = torch.complex(row[:half], row[half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag])


def attention_by_hand(
    settings: DecoderSettings, names: Names, inputs: list[Tensor], sees: Tensor | None = None
) -> Tensor:
    """Attention of (T, D) inputs for query, key and value, already normed, one query and head at a time. Query head h
    uses key head floor(h / (heads / kv_heads)) (arXiv 2305.13245, figure 2)."""
    width, keys = settings.head_width, settings.key_heads * settings.head_width
    projections = names["qkv.weight"].split([settings.width, keys, keys])
    q, k, v = (x @ weight.T for x, weight in zip(inputs, projections, strict=True))
    if settings.qk_norm:
        q, k = rms_normed(q, names["q_norm.weight"]), rms_normed(k, names["k_norm.weight"])
    rows = []
    for t in range(len(q)):
        heads = []
        for head in range(settings.heads):
            own = slice(head * width, (head + 1) * width)
            group = head // (settings.heads // settings.key_heads)
            shared = slice(group * width, (group + 1) * width)
            past = [s for s in range(t + 1) if sees is None or sees[t, s]]
            query = rotated(q[t, own], t)
            scores = torch.stack([query @ rotated(k[s, shared], s) for s in past]) / width**0.5
            heads.append(scores.softmax(dim=0) @ v[past, shared])
        rows.append(torch.cat(heads))
    return torch.stack(rows) @ names["out.weight"].T


def attention(settings: DecoderSettings) -> tuple[Attention, Names]:
    branch = Attention(settings, RotaryPositions(settings.head_width, settings.context, settings.rope_theta)).double()
    randomise(branch)
    return branch, dict(branch.named_parameters())


@pytest.mark.parametrize("separate", [False, True], ids=["one-input", "three-inputs"])
@pytest.mark.parametrize("qk_norm", [False, True], ids=["plain", "qk-norm"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_is_the_softmax_of_turned_queries_and_keys_over_the_past(
    kv_heads: int, qk_norm: bool, separate: bool
) -> None:
    settings = SHAPE.model_copy(update={"kv_heads": kv_heads, "qk_norm": qk_norm})
    branch, names = attention(settings)
    assert branch.qkv.weight.shape == ((4 + 2 * kv_heads) * 4, 16)
    inputs = [normal(1, SHAPE.context, SHAPE.width, seed=seed) for seed in ((1, 2, 3) if separate else (1,))]
    by_hand = [rms_normed(x[0], names["norm.weight"]) for x in inputs]
    expected = attention_by_hand(settings, names, by_hand if separate else 3 * by_hand)
    assert distance(branch(*inputs)[0], expected) < 1e-6  # the table of angles is in fp32


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_what_is_masked_is_not_seen(kv_heads: int) -> None:
    settings = SHAPE.model_copy(update={"kv_heads": kv_heads})
    branch, names = attention(settings)
    x = normal(1, SHAPE.context, SHAPE.width, seed=1)
    sees = (normal(SHAPE.context, SHAPE.context, seed=2) > 0).tril() | torch.eye(SHAPE.context, dtype=torch.bool)
    found = branch.given(mask=sees[None, None])(x)
    expected = attention_by_hand(settings, names, 3 * [rms_normed(x[0], names["norm.weight"])], sees)
    assert distance(found[0], expected) < 1e-6
    assert distance(branch(x), found) > 0.1, "the mask does nothing"


@pytest.mark.parametrize("count", [2, 4])
def test_attention_takes_one_input_or_three(count: int) -> None:
    branch, _ = attention(SHAPE)
    with pytest.raises(ValueError, match="zip"):
        branch(*(normal(1, 4, SHAPE.width, seed=1) for _ in range(count)))


def test_the_feed_forward_is_a_swiglu() -> None:
    branch = FeedForward(SHAPE).double()
    randomise(branch)
    x = normal(1, 3, SHAPE.width, seed=1)
    gate, up = (rms_normed(x, branch.norm.weight) @ branch.gate_up.weight.T).split(12, dim=-1)
    assert distance(branch(x), (gate / (1 + torch.exp(-gate)) * up) @ branch.out.weight.T) < 1e-12


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("norm_type", NORMS)
def test_a_branch_norms_its_input_or_its_output(norm_type: str, position: str) -> None:
    settings = SHAPE.model_copy(update={"norm_type": norm_type, "norm_position": position, "kv_heads": 2})
    x = normal(1, SHAPE.context, SHAPE.width, seed=1)
    feed_forward = FeedForward(settings).double()
    randomise(feed_forward)
    attending, names = attention(settings)

    def swiglu(x: Tensor, names: Names) -> Tensor:
        gate, up = (x @ names["gate_up.weight"].T).split(12, dim=-1)
        return (gate / (1 + torch.exp(-gate)) * up) @ names["out.weight"].T

    def attended(x: Tensor, names: Names) -> Tensor:
        return attention_by_hand(settings, names, 3 * [x[0]])[None]

    cases: list[tuple[Any, Any, Names]] = [
        (feed_forward, swiglu, dict(feed_forward.named_parameters())),
        (attending, attended, names),
    ]
    for branch, function, own in cases:
        if position == "before":
            expected = function(normed(settings, "norm", x, own), own)
        else:
            expected = normed(settings, "out_norm", function(x, own), own)
        assert distance(branch(x), expected) < 1e-6
        assert torch.equal(branch(x), branch.transform(branch.norm(x))), "connections use the two by name"
        assert torch.equal(branch.norm(x), x) == (position == "after")


def test_dropout_follows_the_norm_of_the_output() -> None:
    """Of a dropped number nothing is left, and no other number changes for it but by the factor of dropout."""
    settings = SHAPE.model_copy(update={"norm_position": "after", "dropout": 0.5})
    branch, x = FeedForward(settings), normal(1, 8, SHAPE.width, seed=1, dtype=torch.float32)
    torch.manual_seed(0)
    dropped, whole = branch(x), branch.eval()(x)
    kept = dropped != 0
    assert 0.2 < kept.float().mean() < 0.8
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("position", ["before", "after"])
def test_under_autocast_a_branch_answers_in_bf16(position: str, norm_type: str) -> None:
    """Else the norm at its end or of queries and keys would make the whole stream fp32."""
    settings = SHAPE.model_copy(update={"norm_type": norm_type, "norm_position": position, "qk_norm": True})
    branches = [Attention(settings, RotaryPositions(4, 8, 50.0)), FeedForward(settings)]
    x = normal(1, 8, 16, seed=1, dtype=torch.bfloat16)
    for branch in branches:
        randomise(branch)
        with torch.autocast("cpu", torch.bfloat16):
            found = branch(x)
        assert found.dtype == torch.bfloat16
        assert distance(found, branch(x.float())) < 0.05


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
