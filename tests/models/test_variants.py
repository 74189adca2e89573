"""Decoders as published models have them: sizes, the function as a whole, experts, and every connection around them."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
import torch
from connections_support import distance, randomise
from models.test_layers import attention_by_hand, layer_normed, rms_normed
from torch import Tensor

from harness.connections.settings import CONNECTIONS, ConnectionSettings, HyperSettings, ResidualSettings
from harness.models.decoder import Decoder, token_losses
from harness.models.moe import MixtureOfExperts
from harness.models.settings import DecoderSettings

VOCABULARY = 32
SHAPE = DecoderSettings(
    layers=2, width=16, heads=4, context=8, ffn_width=24, init_std=0.2, norm_eps=1e-3, rope_theta=50
)
EXPERTS = SHAPE.model_copy(update={"experts": 6, "experts_per_token": 2})
VARIANTS: dict[str, dict[str, Any]] = {
    "olmo-1": {"norm_type": "layer_norm_no_affine"},
    "olmo-2": {"norm_position": "after", "qk_norm": True, "tied": False},
    "llama": {"kv_heads": 2, "tied": False},
    "olmoe": {"qk_norm": True, "tied": False, "experts": 6, "experts_per_token": 2},
    "documents": {"kv_heads": 1, "norm_type": "layer_norm", "document_mask": True},
}

CARRIERS: dict[str, dict[str, Any]] = {
    "residual": {},
    "post_norm": {},
    "parallel": {},
    "hyper": {"rate": 2},
    "frac": {"rate": 2},
    "ghc": {"fractions": 2, "slots": 3},
    "mhc": {},
    "mudd": {},
}
PAIRS = [
    (name, variant)
    for name, options in CARRIERS.items()
    for variant, changes in VARIANTS.items()
    if not SHAPE.model_copy(update=changes).problem_of(CONNECTIONS[name](**options))
]


def decoder(connection: ConnectionSettings | None = None, **changes: Any) -> Decoder:
    shape = SHAPE.model_copy(update=changes)
    return Decoder(shape, connection or ResidualSettings(), VOCABULARY, boundary=VOCABULARY - 1)


class Witness:
    """Something that a weak reference can point to."""


def tokens(batch: int = 2) -> Tensor:
    return torch.randint(VOCABULARY, (batch, SHAPE.context), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("total", "vocabulary", "shape"),
    [
        # arXiv 2409.19606, Table 7
        (1_176_764_416, 50_304, {"layers": 16, "width": 2048, "ffn_width": 8192, "norm_type": "layer_norm_no_affine"}),
        (
            6_888_095_744,
            50_304,
            {"layers": 32, "width": 4096, "ffn_width": 11_008, "norm_type": "layer_norm_no_affine", "tied": False},
        ),
        # the published weights of OLMo-2-0425-1B and OLMoE-1B-7B-0924
        (1_484_916_736, 100_352, {"layers": 16, "width": 2048, "ffn_width": 8192, **VARIANTS["olmo-2"]}),
        (
            6_919_161_856,
            50_304,
            {
                **{"layers": 16, "width": 2048, "ffn_width": 1024},
                **VARIANTS["olmoe"],
                **{"experts": 64, "experts_per_token": 8},
            },
        ),
    ],
    ids=["olmo-1b", "olmo-7b", "olmo-2-1b", "olmoe-1b-7b"],
)
def test_published_models_have_their_published_sizes(total: int, vocabulary: int, shape: dict[str, Any]) -> None:
    settings = DecoderSettings(heads=16, context=4096, **shape)
    with torch.device("meta"):
        model = Decoder(settings, ResidualSettings(), vocabulary)
    assert sum(parameter.numel() for parameter in model.parameters()) == total


@pytest.mark.parametrize("variant", ["olmo-1", "olmo-2", "llama"])
def test_logits_are_those_of_the_equations(variant: str) -> None:
    """x <- x + f(N(x)), or x + N(f(x)), for the two branches of every block; then the final norm and the output."""
    model = decoder(**VARIANTS[variant]).double()
    randomise(model, std=0.4)
    settings, names = model.settings, dict(model.named_parameters())

    def norm(name: str, x: Tensor) -> Tensor:
        if settings.norm_type == "rms_norm":
            return rms_normed(x, names[f"{name}norm.weight"])
        return layer_normed(x, None, None)

    sequence = tokens(1)
    x = names["embedding.weight"][sequence[0]]
    for index in range(2 * settings.layers):
        prefix = f"branches.{index}."
        own = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
        before = settings.norm_position == "before"
        entering = norm(prefix, x) if before else x
        if index % 2 == 0:
            out = attention_by_hand(settings, own, 3 * [entering])
        else:
            gate, up = (entering @ own["gate_up.weight"].T).chunk(2, dim=-1)
            out = (gate * torch.sigmoid(gate) * up) @ own["out.weight"].T
        x = x + (out if before else norm(f"{prefix}out_", out))
    output = names["embedding.weight" if settings.tied else "unembedding.weight"]
    assert distance(model(sequence)[0], norm("", x) @ output.T) < 1e-6


@pytest.mark.parametrize(("name", "variant"), PAIRS)
def test_connections_carry_every_variant_and_all_of_it_learns(name: str, variant: str) -> None:
    connection = CONNECTIONS[name](**CARRIERS[name])
    model = decoder(connection, **VARIANTS[variant])
    loss = token_losses(model(tokens()), tokens().roll(-1, dims=1)).mean() + sum(model.auxiliary_losses().values())
    loss.backward()
    assert math.isfinite(loss.item())
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        if not parameter_name.startswith("connections."):
            assert parameter.grad.abs().max() > 0, parameter_name
    with torch.autocast("cpu", torch.bfloat16):
        assert model.hidden(tokens()).dtype == torch.bfloat16


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_start_and_decay_by_their_kind(variant: str) -> None:
    model = decoder(**{**VARIANTS[variant], "width": 64, "heads": 4})
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            assert (parameter == 1).all(), name
        elif name.endswith("norm.bias"):
            assert (parameter == 0).all(), name
        else:
            std = 0.2 / math.sqrt(4) if name.endswith((".out", ".out.weight")) else 0.2
            assert parameter.std().item() == pytest.approx(std, rel=0.15), name
        assert model.decays(name) == ("norm." not in name), name


def test_losses_and_readings_are_the_layers_means() -> None:
    model = decoder(**VARIANTS["olmoe"], balance_loss=0.5, router_z_loss=0.25)
    assert model.expert_loads() is None
    assert model.readings() == {}
    model(tokens())
    layers = [module for module in model.branches if isinstance(module, MixtureOfExperts)]
    kept = [module.losses for module in layers]
    balances, squares = ([float(pair[i].detach()) for pair in kept if pair is not None] for i in (0, 1))
    assert len(balances) == 2
    losses = model.auxiliary_losses()
    assert losses["balance"].item() == pytest.approx(0.5 * sum(balances) / 2)
    assert losses["router_z"].item() == pytest.approx(0.25 * sum(squares) / 2)
    counts = [module.counts.tolist() for module in layers]
    found, shares = model.readings(), [[count / 32 for count in layer] for layer in counts]
    entropies = [-sum(s * math.log(s) for s in layer if s) for layer in shares]
    assert found == pytest.approx(
        {
            "router/balance": sum(balances) / 2,
            "router/z": sum(squares) / 2,
            "router/max_load": 6 * max(max(layer) for layer in shares),
            "router/entropy": sum(entropies) / 2 / math.log(6),
            "router/unused": sum(s == 0 for layer in shares for s in layer) / 12,
        },
        rel=1e-5,
    )
    loads = model.expert_loads()
    assert loads is not None
    assert loads.tolist() == shares
    model.reset_readings()
    assert model.readings() == {}


def test_readings_are_of_all_tokens_whatever_the_pieces_and_in_evaluation_too() -> None:
    model, batch = decoder(HyperSettings(rate=2), **VARIANTS["olmoe"]).eval(), tokens(6)
    readings = []
    for pieces in ([6], [4, 1, 1]):
        model.reset_readings()
        for piece in batch.split(pieces):
            model(piece)
        readings.append(model.readings())
    assert readings[0] == pytest.approx(readings[1])
    assert model.auxiliary_losses() == {}


def test_losses_are_handed_out_once_and_the_graph_ends_with_them() -> None:
    model = decoder(**VARIANTS["olmoe"])
    model(tokens())
    kept = model.branches[1].losses
    assert kept is not None
    witness = Witness()
    kept[0].grad_fn.metadata["witness"] = witness  # lives as long as this node of the graph
    watched = weakref.ref(witness)
    del witness, kept
    losses = model.auxiliary_losses()
    assert set(losses) == {"balance", "router_z"}
    assert model.auxiliary_losses() == {}
    assert watched() is not None, "the losses handed out have no graph"
    del losses
    gc.collect()
    assert watched() is None


def test_dense_decoders_have_nothing_to_report() -> None:
    model = decoder()
    model(tokens())
    assert model.auxiliary_losses() == {}
    assert model.readings() == {}
    assert model.expert_loads() is None


def test_a_mixture_of_equal_experts_is_the_dense_branch_times_the_chosen_probability() -> None:
    """With all experts chosen the weights sum to 1, and the mixture is the one expert that they all are."""
    dense = decoder(ffn_width=24)
    mixed = decoder(ffn_width=24, experts=4, experts_per_token=4)
    weights = mixed.state_dict()
    for name, weight in dense.state_dict().items():
        if name.endswith("gate_up.weight") or (name.endswith("out.weight") and name.removesuffix(".weight") in weights):
            weights[name.removesuffix(".weight")] = weight.T.expand(4, -1, -1)
        else:
            weights[name] = weight
    mixed.load_state_dict(weights)
    assert distance(mixed(tokens()), dense(tokens())) < 1e-5
