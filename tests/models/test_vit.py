"""The Vision Transformer against Eq. 1-4 of arXiv 2010.11929 written out in float64, and around every connection."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from connections_support import distance, normal, randomise
from torch import Tensor

from harness.connections.settings import CONNECTIONS, ConnectionSettings, ResidualSettings
from harness.data.inputs import ImageInputs
from harness.models.patches import PatchAttention, from_patches, to_patches
from harness.models.settings import ViTSettings
from harness.models.vit import ViT

INPUTS = ImageInputs(size=8, channels=3, classes=5)
SHAPE = ViTSettings(layers=3, width=16, heads=2, patch=2, init_std=0.2, norm_eps=1e-6)
NEEDED: dict[str, dict[str, Any]] = {"hyper": {"rate": 4}, "frac": {"rate": 4}, "ghc": {"fractions": 2, "slots": 4}}
ARMS: list[ConnectionSettings] = [kind(**NEEDED.get(name, {})) for name, kind in CONNECTIONS.items()]
PRE_NORM = [  # mudd norms keys and values with an RMSNorm of its own, which is no LayerNorm
    arm for arm in ARMS if arm.start().kind == "pre-norm" and arm.type not in ("residual", "mudd")
]


def images(count: int = 2, seed: int = 1) -> Tensor:
    return normal(count, 3, 8, 8, seed=seed, dtype=torch.float32)


def vit(connection: ConnectionSettings | None = None, seed: int = 3, **update: Any) -> ViT:
    shape = ViTSettings(**{**SHAPE.model_dump(), **update})
    return ViT(shape, connection or ResidualSettings(), INPUTS, backbone_seed=seed)


def layer_norm(x: Tensor, p: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    normed = centred / (centred.square().mean(dim=-1, keepdim=True) + SHAPE.norm_eps).sqrt()
    return normed * p[f"{name}.weight"] + p[f"{name}.bias"]


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + SHAPE.norm_eps).sqrt() * weight


def attention(q_in: Tensor, k_in: Tensor, v_in: Tensor, p: dict[str, Tensor], at: str, qk_norm: bool) -> Tensor:
    """(T, D): softmax(q kᵀ / sqrt(head width)) v, head by head."""
    D = SHAPE.width
    q, k, v = (
        x @ p[f"{at}.qkv.weight"][i * D : (i + 1) * D].T + p[f"{at}.qkv.bias"][i * D : (i + 1) * D]
        for i, x in enumerate((q_in, k_in, v_in))
    )
    if qk_norm:
        q, k = rms_norm(q, p[f"{at}.q_norm.weight"]), rms_norm(k, p[f"{at}.k_norm.weight"])
    heads = []
    for part in torch.arange(D).chunk(SHAPE.heads):
        scores = q[:, part] @ k[:, part].T / len(part) ** 0.5
        weights = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
        heads.append(weights @ v[:, part])
    return torch.cat(heads, dim=-1) @ p[f"{at}.out.weight"].T + p[f"{at}.out.bias"]


def feed_forward(x: Tensor, p: dict[str, Tensor], at: str) -> Tensor:
    up = x @ p[f"{at}.up.weight"].T + p[f"{at}.up.bias"]
    return up * (1 + torch.erf(up / 2**0.5)) / 2 @ p[f"{at}.out.weight"].T + p[f"{at}.out.bias"]


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("pool", ["class_token", "mean"])
def test_the_network_is_the_papers_equations(pool: str, qk_norm: bool) -> None:
    model = vit(layers=1, pool=pool, qk_norm=qk_norm).double()
    randomise(model, std=0.4)
    p, rows = dict(model.state_dict()), []
    for image in images().double():
        tokens = [
            image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1) @ p["embedding.weight"].T + p["embedding.bias"]
            for i in range(4)
            for j in range(4)
        ]
        z = torch.stack([p["class_token"], *tokens] if pool == "class_token" else tokens) + p["positions"]
        normed = layer_norm(z, p, "branches.0.norm")
        z = z + attention(normed, normed, normed, p, "branches.0", qk_norm)
        z = z + feed_forward(layer_norm(z, p, "branches.1.norm"), p, "branches.1")
        y = layer_norm(z, p, "norm")
        rows.append((y[0] if pool == "class_token" else y.mean(dim=0)) @ p["head.weight"].T + p["head.bias"])
    assert distance(model(images().double()), torch.stack(rows)) < 1e-12


@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_takes_query_key_and_value_apart(qk_norm: bool) -> None:
    branch = vit(qk_norm=qk_norm).double().branches[0]
    assert isinstance(branch, PatchAttention)
    randomise(branch)
    p = {f"a.{name}": value for name, value in branch.state_dict().items()}
    q, k, v = (normal(1, 5, 16, seed=seed) for seed in (1, 2, 3))
    normed = [layer_norm(x[0], p, "a.norm") for x in (q, k, v)]
    assert distance(branch(q, k, v)[0], attention(*normed, p, "a", qk_norm)) < 1e-12
    assert distance(branch(q, q, q), branch(q)) < 1e-12


def test_patches_are_cut_row_by_row_and_put_together_again() -> None:
    x = normal(2, 3, 6, 6, seed=1)
    patches = to_patches(x, 2)
    assert patches.shape == (2, 9, 12)
    for token in range(9):
        top, left = 2 * (token // 3), 2 * (token % 3)
        assert torch.equal(patches[:, token], x[:, :, top : top + 2, left : left + 2].reshape(2, 12))
    assert torch.equal(from_patches(patches, 2, 3), x)
    with pytest.raises(RuntimeError):
        to_patches(x, 4)


def test_patches_have_an_order_only_by_their_positions() -> None:
    model, order = vit().double(), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    original = images().double()
    moved = from_patches(to_patches(original, 2)[:, order], 2, 3)
    before = model(original).detach()
    assert distance(model(moved), before) > 1e-3
    with torch.no_grad():
        model.positions[1:] = model.positions[1:][order]
    assert distance(model(moved), before) < 1e-12


@pytest.mark.parametrize("connection", PRE_NORM, ids=lambda c: c.tag())
def test_the_logits_at_the_start_are_the_residuals(connection: ConnectionSettings) -> None:
    with torch.no_grad():
        expected, logits = vit()(images()), vit(connection)(images())
        idle = vit()
        for branch in idle.branches:
            branch.out.weight.zero_()
        assert distance(idle(images()), expected) > 0.1, "the branches do nothing"
    assert distance(logits, expected) < 1e-5
    assert vit(connection).backbone_digest() == vit().backbone_digest()
    assert vit(connection, seed=4).backbone_digest() != vit().backbone_digest()


@pytest.mark.parametrize("pool", ["class_token", "mean"])
@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_every_connection_trains_every_parameter(connection: ConnectionSettings, pool: str) -> None:
    model = vit(connection, pool=pool, qk_norm=True)
    if list(model.connections.parameters()):
        randomise(model.connections, std=0.3)
    logits = model(images())
    assert logits.shape == (2, INPUTS.classes)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert idle == []


@pytest.mark.parametrize("connection", ARMS[:1] + PRE_NORM[-1:], ids=lambda c: c.tag())
def test_dropout_acts_in_training_only(connection: ConnectionSettings) -> None:
    with_dropout, without = vit(connection, dropout=0.5), vit(connection)
    torch.manual_seed(0)
    assert not torch.equal(with_dropout(images()), with_dropout(images()))
    assert torch.equal(without(images()), without(images()))
    assert torch.equal(with_dropout.eval()(images()), without(images()))


def test_dropout_is_on_the_outputs_of_the_branches_alone() -> None:
    """Where all is dropped but for one chance in a million, what is left is the embedding."""
    model, bare = vit(dropout=1 - 1e-6), vit()
    with torch.no_grad():
        for branch in bare.branches:
            branch.out.weight.zero_()
        assert torch.equal(model(images()), bare(images()))


def test_biases_norms_positions_and_class_token_do_not_decay() -> None:
    model = vit(qk_norm=True)
    decayed = {name for name, _ in model.named_parameters() if model.decays(name)}
    blocks = {f"branches.{k}.{name}.weight" for k in (0, 2, 4) for name in ("qkv", "out")}
    blocks |= {f"branches.{k}.{name}.weight" for k in (1, 3, 5) for name in ("up", "out")}
    assert decayed == blocks | {"embedding.weight", "head.weight"}


def test_bf16_autocast_stays_close() -> None:
    model = vit()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(images())
    assert distance(logits, model(images())) < 0.05


def test_vit_b16_has_the_published_number_of_parameters() -> None:
    """ViT-B/16 at 224 pixels with 1000 classes: 86 M in Table 1, 86,567,656 in the released weights."""
    shape = ViTSettings(layers=12, width=768, heads=12, patch=16)
    with torch.device("meta"):
        model = ViT(shape, ResidualSettings(), ImageInputs(size=224, channels=3, classes=1000))
    assert sum(p.numel() for p in model.parameters()) == 86_567_656
