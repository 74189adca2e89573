"""The Diffusion Transformer against arXiv 2212.09748 written out in float64, and around every connection."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from connections_support import distance, normal, randomise
from torch import Tensor

from harness.connections.settings import CONNECTIONS, ConnectionSettings, ResidualSettings
from harness.data.inputs import ImageInputs
from harness.models.dit import FREQUENCIES, DiT, grid_positions, waves
from harness.models.settings import DiTSettings

INPUTS = ImageInputs(size=6, channels=3, classes=5)
SHAPE = DiTSettings(layers=3, width=16, heads=2, patch=2, init_std=0.2)
NEEDED: dict[str, dict[str, Any]] = {"hyper": {"rate": 4}, "frac": {"rate": 4}, "ghc": {"fractions": 2, "slots": 4}}
ARMS: list[ConnectionSettings] = [kind(**NEEDED.get(name, {})) for name, kind in CONNECTIONS.items()]
PRE_NORM = [  # mudd norms keys and values with an RMSNorm of its own, which is no LayerNorm
    arm for arm in ARMS if arm.start().kind == "pre-norm" and arm.type not in ("residual", "mudd")
]
TIMES, LABELS = torch.tensor([7, 950]), torch.tensor([2, 5])


def noisy() -> Tensor:
    return normal(2, 3, 6, 6, seed=1, dtype=torch.float32)


def dit(connection: ConnectionSettings | None = None, *, gates: bool = True, seed: int = 3, **update: Any) -> DiT:
    """With `gates` the maps that start at zero are drawn, so that the branches do something."""
    shape = DiTSettings(**{**SHAPE.model_dump(), **update})
    model = DiT(shape, connection or ResidualSettings(), INPUTS, backbone_seed=seed)
    if gates:
        with torch.no_grad():
            for offset, (name, parameter) in enumerate(model.named_parameters()):
                if name.endswith(("modulation.weight", "head.weight")):
                    parameter.copy_(0.3 * normal(*parameter.shape, seed=offset))
    return model


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + SHAPE.norm_eps).sqrt()


def linear(x: Tensor, p: dict[str, Tensor], name: str, rows: slice = slice(None)) -> Tensor:
    return x @ p[f"{name}.weight"][rows].T + p[f"{name}.bias"][rows]


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def attention(inputs: list[Tensor], c: Tensor, p: dict[str, Tensor], at: str) -> Tensor:
    """(T, D): gate · attention of (1 + scale) x + shift, for query, key and value."""
    D = SHAPE.width
    shift, scale, gate = linear(silu(c), p, f"{at}.modulation").split(D)
    q, k, v = (linear((1 + scale) * x + shift, p, f"{at}.qkv", slice(i * D, (i + 1) * D)) for i, x in enumerate(inputs))
    heads = []
    for part in torch.arange(D).chunk(SHAPE.heads):
        scores = q[:, part] @ k[:, part].T / len(part) ** 0.5
        heads.append(scores.exp() / scores.exp().sum(dim=-1, keepdim=True) @ v[:, part])
    return gate * linear(torch.cat(heads, dim=-1), p, f"{at}.out")


def feed_forward(x: Tensor, c: Tensor, p: dict[str, Tensor], at: str) -> Tensor:
    shift, scale, gate = linear(silu(c), p, f"{at}.modulation").split(SHAPE.width)
    up = linear((1 + scale) * x + shift, p, f"{at}.up")
    gelu = up / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    return gate * linear(gelu, p, f"{at}.out")


def reference(p: dict[str, Tensor], image: Tensor, time: int, label: int) -> Tensor:
    """(C, S, S): one block, one image."""
    frequencies = [10_000 ** (-i / 128) for i in range(128)]
    told = [math.cos(time * f) for f in frequencies] + [math.sin(time * f) for f in frequencies]
    hidden = silu(linear(torch.tensor(told, dtype=torch.float64), p, "timestep.0"))
    c = linear(hidden, p, "timestep.2") + p["labels.weight"][label]
    corners = [(2 * i, 2 * j) for i in range(3) for j in range(3)]
    x = torch.stack(
        [linear(image[:, i : i + 2, j : j + 2].reshape(-1), p, "embedding") for i, j in corners]
    ) + grid_positions(3, SHAPE.width)
    x = x + attention([layer_norm(x)] * 3, c, p, "branches.0")
    x = x + feed_forward(layer_norm(x), c, p, "branches.1")
    shift, scale = linear(silu(c), p, "modulation").split(SHAPE.width)
    out = torch.zeros_like(image)
    for (i, j), patch in zip(corners, linear((1 + scale) * layer_norm(x) + shift, p, "head"), strict=True):
        out[:, i : i + 2, j : j + 2] = patch.reshape(3, 2, 2)
    return out


def test_the_network_is_the_papers_equations() -> None:
    model = dit(layers=1).double()
    randomise(model, std=0.4)
    p = dict(model.state_dict())
    rows = [reference(p, *row) for row in zip(noisy().double(), TIMES.tolist(), LABELS.tolist(), strict=True)]
    assert distance(model(noisy().double(), TIMES, LABELS), torch.stack(rows)) < 1e-12


def test_separate_inputs_get_the_same_modulation() -> None:
    branch = dit().double().branches[0]
    randomise(branch)
    p = {f"a.{name}": value for name, value in branch.state_dict().items()}
    inputs, c = [normal(1, 5, 16, seed=seed) for seed in (1, 2, 3)], normal(1, 16, seed=4)
    out = branch.given(condition_BD=silu(c))(*inputs)
    assert distance(out[0], attention([layer_norm(x[0]) for x in inputs], c[0], p, "a")) < 1e-12


def test_positions_are_waves_of_the_row_and_of_the_column() -> None:
    table = grid_positions(3, 16)
    assert table.shape == (9, 16)
    for token in range(9):
        for half, at in enumerate(divmod(token, 3)):
            angles = [at / 10_000 ** (i / 4) for i in range(4)]
            expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
            torch.testing.assert_close(table[token, 8 * half : 8 * half + 8], torch.tensor(expected))
    assert "positions" not in dit().state_dict(), "tables belong in no checkpoint"


def test_every_timestep_can_be_told_from_its_neighbours() -> None:
    table = waves(torch.arange(1000.0), FREQUENCIES)
    assert (table[1:] - table[:-1]).norm(dim=-1).min() > 0.5


@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_untrained_it_predicts_exactly_nothing(connection: ConnectionSettings) -> None:
    model = dit(connection, gates=False)
    assert torch.equal(model(noisy(), TIMES, LABELS), torch.zeros(2, 3, 6, 6))
    assert all(model.labels.weight.std(dim=-1) > 0.05), "the embeddings are not zero"


@pytest.mark.parametrize("connection", PRE_NORM, ids=lambda c: c.tag())
def test_with_gates_it_predicts_at_the_start_what_the_residual_does(connection: ConnectionSettings) -> None:
    with torch.no_grad():
        expected, noise = dit()(noisy(), TIMES, LABELS), dit(connection)(noisy(), TIMES, LABELS)
        idle = dit()
        for branch in idle.branches:
            branch.modulation.weight.zero_()
        assert distance(idle(noisy(), TIMES, LABELS), expected) > 0.1, "the branches do nothing"
    assert distance(noise, expected) < 1e-5
    assert dit(connection, gates=False).backbone_digest() == dit(gates=False).backbone_digest()


@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_every_connection_trains_every_parameter(connection: ConnectionSettings) -> None:
    model = dit(connection, qk_norm=True)
    if list(model.connections.parameters()):
        randomise(model.connections, std=0.3)
    noise = model(noisy(), TIMES, LABELS)
    assert noise.shape == (2, 3, 6, 6)
    (noise - normal(2, 3, 6, 6, seed=2, dtype=torch.float32)).square().mean().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert idle == []


def test_class_timestep_and_their_absence_matter_for_the_example_that_they_belong_to() -> None:
    model = dit().double()
    before = model(noisy().double(), TIMES, LABELS)
    for times, labels in [
        (TIMES, torch.tensor([3, 5])),
        (TIMES, torch.tensor([INPUTS.classes, 5])),
        (torch.tensor([8, 950]), LABELS),
    ]:
        after = model(noisy().double(), times, labels)
        assert distance(after[0], before[0]) > 1e-4
        assert distance(after[1], before[1]) < 1e-12


def test_dropout_acts_in_training_only() -> None:
    with_dropout, without = dit(dropout=0.5), dit()
    torch.manual_seed(0)
    assert distance(with_dropout(noisy(), TIMES, LABELS), without(noisy(), TIMES, LABELS)) > 0.01
    with_dropout.eval()
    assert torch.equal(with_dropout(noisy(), TIMES, LABELS), without(noisy(), TIMES, LABELS))


def test_biases_and_labels_do_not_decay() -> None:
    model = dit()
    decayed = {name for name, _ in model.named_parameters() if model.decays(name)}
    blocks = {f"branches.{k}.{name}.weight" for k in (0, 2, 4) for name in ("qkv", "out", "modulation")}
    blocks |= {f"branches.{k}.{name}.weight" for k in (1, 3, 5) for name in ("up", "out", "modulation")}
    others = {f"{name}.weight" for name in ("embedding", "timestep.0", "timestep.2", "modulation", "head")}
    assert decayed == blocks | others


def test_bf16_autocast_stays_close() -> None:
    model = dit()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        noise = model(noisy(), TIMES, LABELS)
    assert distance(noise, model(noisy(), TIMES, LABELS)) < 0.1


def test_dit_xl2_has_the_published_number_of_parameters_but_for_the_learned_variance() -> None:
    """675 M in Table 1, of which the paper's code counts 675,129,632: with the table of positions, which is learned by
    nobody, and with 8 numbers a pixel in the last map, of which 4 are the variance."""
    width, patch, channels, tokens = 1152, 2, 4, (32 // 2) ** 2
    with torch.device("meta"):
        shape = DiTSettings(layers=28, width=width, heads=16, patch=patch)
        model = DiT(shape, ResidualSettings(), ImageInputs(size=32, channels=channels, classes=1000))
    positions, variance = tokens * width, (width + 1) * patch**2 * channels
    assert sum(p.numel() for p in model.parameters()) + positions + variance == 675_129_632
