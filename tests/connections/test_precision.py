"""Low precision: coefficients and mixing in fp32, the stream in bf16, deep nets finite; and determinism."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from connections_support import connect, distance, normal, randomise
from torch import Tensor

from harness.conform.probes import probes
from harness.connections import FracConnection, HyperConnection, build
from harness.connections.base import sum_streams
from harness.connections.dense import average
from harness.connections.residual import ReZeroConnections
from harness.connections.settings import (
    CONNECTIONS,
    ConnectionSettings,
    FracSettings,
    HyperSettings,
    ResidualSettings,
    ReZeroSettings,
)
from harness.models.decoder import Decoder, token_losses
from harness.models.settings import DecoderSettings

DIM, RATE = 24, 3
DEEP = DecoderSettings(layers=24, width=32, heads=2, context=16)  # 48 sub-layers
ARMS = [ResidualSettings(), HyperSettings(rate=4), FracSettings(rate=4)]


def sublayer_and_state(kind: str, dynamic: bool) -> tuple[Any, Tensor]:
    connection = {"hyper": HyperConnection, "frac": FracConnection}[kind](DIM, RATE, 1, dynamic)
    randomise(connection)
    width = DIM if kind == "hyper" else DIM // RATE
    return connection, normal(2, 5, RATE, width, seed=1).to(torch.bfloat16)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", ["hyper", "frac"])
def test_a_bf16_stream_is_mixed_in_fp32_and_rounded_once(kind: str, dynamic: bool, autocast: bool) -> None:
    connection, h = sublayer_and_state(kind, dynamic)
    out = normal(2, 5, DIM, seed=2).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        mix, beta = connection.width_connection(h)
        new = connection.depth_connection(mix, out, beta)
    exact_mix, exact_beta = connection.width_connection(h.float())
    assert beta.dtype == torch.float32
    assert torch.equal(beta, exact_beta)
    assert mix.dtype == torch.bfloat16
    assert torch.equal(mix, exact_mix.bfloat16())
    exact_new = connection.depth_connection(mix.float(), out.float(), beta)
    assert new.dtype == torch.bfloat16
    assert torch.equal(new, exact_new.bfloat16())


@pytest.mark.parametrize("kind", ["hyper", "frac"])
def test_autocast_does_not_touch_an_fp32_stream(kind: str) -> None:
    connection, h = sublayer_and_state(kind, dynamic=True)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = connect(connection, h.float(), torch.tanh)
    assert torch.equal(under_autocast, connect(connection, h.float(), torch.tanh))


@pytest.mark.parametrize("settings", ARMS, ids=lambda s: s.tag())
def test_a_net_of_48_sublayers_is_finite_in_bf16_and_near_fp32(settings: ConnectionSettings) -> None:
    model = Decoder(DEEP, settings, vocabulary=31)
    with torch.no_grad():
        for index, (name, parameter) in enumerate(model.connections.named_parameters()):
            if "norm" not in name:
                parameter += 0.02 * normal(*parameter.shape, seed=index)
    tokens = torch.arange(4 * DEEP.context).reshape(4, -1) % 31
    expected = model.hidden(tokens).detach()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.hidden(tokens)
        loss = token_losses(model(tokens), tokens.roll(-1, dims=1)).mean()
    loss.backward()
    assert hidden.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert distance(hidden, expected) < 0.1
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("settings", ARMS, ids=lambda s: s.tag())
def test_one_seed_gives_one_model_and_one_result(settings: ConnectionSettings) -> None:
    shape = DecoderSettings(layers=2, width=16, heads=2, context=8)
    tokens = torch.arange(16).reshape(2, 8)
    results = []
    for noise in (0, 1):  # the state of torch's global stream must not matter
        torch.manual_seed(noise)
        model = Decoder(shape, settings, 17, backbone_seed=5, connection_seed=6)
        loss = token_losses(model(tokens), tokens).mean()
        loss.backward()
        results.append((model.state_dict(), loss.detach(), {k: p.grad for k, p in model.named_parameters()}))
    (state, loss, grads), (state_again, loss_again, grads_again) = results
    assert torch.equal(loss, loss_again)
    assert all(torch.equal(state_again[k], v) for k, v in state.items())
    assert all(torch.equal(grads_again[k], v) for k, v in grads.items())
    other = Decoder(shape, settings, 17, backbone_seed=4, connection_seed=6)
    assert not torch.equal(other.embedding.weight, state["embedding.weight"])


SUBLAYERS: list[ConnectionSettings] = [
    CONNECTIONS["ghc"].model_validate({"fractions": 2, "slots": 3}),
    CONNECTIONS["ghc"].model_validate({"fractions": 1, "slots": 3}),
    *[CONNECTIONS[kind].model_validate({"rate": 3}) for kind in ("mhc", "identity_hc", "mhc_lite")],
]


@pytest.mark.parametrize("settings", SUBLAYERS, ids=lambda s: s.tag())
def test_every_kind_of_stream_is_mixed_in_fp32_and_rounded_once(settings: ConnectionSettings) -> None:
    connection: Any = settings.build(DIM, 2).sublayers[1]
    randomise(connection)
    claims = settings.claims()
    h = normal(2, 5, claims.rows, DIM // claims.parts, seed=1).to(torch.bfloat16)
    out = normal(2, 5, DIM, seed=2).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        mix, beta = connection.width_connection(h)
        new = connection.depth_connection(mix, out, beta)
        whole = connection.connect(h, lambda x: out)
    exact_mix, exact_beta = connection.width_connection(h.float())
    exact_new = connection.depth_connection(mix.float(), out.float(), exact_beta)
    assert torch.equal(beta, exact_beta)
    assert torch.equal(mix, exact_mix.bfloat16())
    assert torch.equal(new, exact_new.bfloat16())
    assert distance(whole, new) < 0.01
    assert new.dtype == whole.dtype == torch.bfloat16


def test_sums_averages_and_scaled_additions_are_rounded_once() -> None:
    states = [normal(2, 3, DIM, seed=k).to(torch.bfloat16) for k in range(7)]
    streams = torch.stack(states, dim=2)
    assert torch.equal(sum_streams(streams), streams.float().sum(dim=2).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        weights = normal(7, seed=9).float()
        exact = sum(w * s.float() for w, s in zip(weights, states, strict=True))
        found = average(weights, [s.float() for s in states])
        assert found.dtype == torch.float32
        assert distance(found, exact) < 1e-6
        alpha = torch.tensor(0.3)
        rezero = ReZeroConnections(ReZeroSettings(), 2).add(states[0], alpha, states[1])
    assert torch.equal(rezero, torch.addcmul(states[0].float(), alpha, states[1].float()).bfloat16())


@pytest.mark.parametrize("kind", ["altup", "resi_dual", "denseformer", "laurel", "attention_residuals", "mudd"])
def test_what_surrounds_the_branches_adds_little_error_in_bf16(kind: str) -> None:
    """With branches that round alike, a stack in bf16 is as near to fp32 as its own roundings of the state allow."""
    stack = build(CONNECTIONS[kind](), DIM, 4)
    with torch.no_grad():
        for index, parameter in enumerate(stack.parameters()):
            parameter += 0.05 * normal(*parameter.shape, seed=index).float()
    branches = probes(DIM, 4, eps=1e-5)
    x = normal(2, 3, DIM, seed=1)
    with torch.no_grad():
        expected = stack(x.bfloat16().float(), branches)
        with torch.autocast("cpu", torch.bfloat16):
            found = stack(x.bfloat16(), branches)
    assert found.dtype == torch.bfloat16
    assert distance(found, expected) < 0.03
