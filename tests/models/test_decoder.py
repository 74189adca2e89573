"""The decoder around the connections: losses, dropout, causality."""

from __future__ import annotations

import math

import pytest
import torch
from connections_support import distance, normal, randomise
from torch import Tensor

from harness.connections.settings import ConnectionSettings, FracSettings, HyperSettings, ResidualSettings
from harness.models.decoder import Decoder, token_losses
from harness.models.settings import DecoderSettings

SHAPE = DecoderSettings(layers=3, width=16, heads=2, context=12, init_std=0.2)
ARMS: list[ConnectionSettings] = [ResidualSettings(), HyperSettings(rate=3), FracSettings(rate=4)]
VOCABULARY = 29


def tokens() -> Tensor:
    return torch.randint(VOCABULARY, (2, SHAPE.context), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_token_losses_are_minus_the_log_softmax_at_the_target(dtype: torch.dtype) -> None:
    logits, targets = (8 * normal(2, 5, 31, seed=1)).to(dtype), torch.arange(10).reshape(2, 5)
    exact = logits.double()
    exact = torch.log(torch.exp(exact).sum(dim=-1)) - exact.gather(-1, targets[..., None])[..., 0]
    losses = token_losses(logits, targets)
    assert losses.shape == (2, 5)
    assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert distance(losses, exact) < 1e-6


@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_a_model_that_knows_nothing_loses_the_log_of_the_vocabulary(connection: ConnectionSettings) -> None:
    model = Decoder(SHAPE, connection, VOCABULARY)
    torch.nn.init.zeros_(model.embedding.weight)
    losses = token_losses(model(tokens()), tokens())
    torch.testing.assert_close(losses, torch.full_like(losses, math.log(VOCABULARY)))


def test_logits_are_the_normed_state_against_the_tied_embedding() -> None:
    model = Decoder(SHAPE, HyperSettings(rate=2), VOCABULARY).double()
    hidden = model.hidden(tokens())
    normed = hidden / (hidden.square().mean(dim=-1, keepdim=True) + SHAPE.norm_eps).sqrt()
    assert distance(model(tokens()), normed @ model.embedding.weight.T) < 1e-12


@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_dropout_acts_in_training_only(connection: ConnectionSettings) -> None:
    with_dropout = Decoder(SHAPE.model_copy(update={"dropout": 0.5}), connection, VOCABULARY)
    without = Decoder(SHAPE, connection, VOCABULARY)
    assert with_dropout.backbone_digest() == without.backbone_digest()
    torch.manual_seed(0)
    assert not torch.equal(with_dropout(tokens()), with_dropout(tokens()))
    assert torch.equal(without(tokens()), without(tokens()))
    assert torch.equal(with_dropout.eval()(tokens()), without(tokens()))


@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_no_hidden_state_sees_a_later_token(connection: ConnectionSettings) -> None:
    model = Decoder(SHAPE, connection, VOCABULARY).double()
    if model.connections.state_dict():
        randomise(model.connections, std=0.4)
    original = tokens()
    before = model.hidden(original)
    for t in range(SHAPE.context):
        changed = original.clone()
        changed[0, t] = (changed[0, t] + 1) % VOCABULARY
        difference = (model.hidden(changed) - before).abs().amax(dim=-1) / before.abs().max()
        assert difference[0, :t].sum() < 1e-13, f"a change at {t} is seen before it"
        assert difference[1].sum() < 1e-13, "a change is seen in another sequence"
        assert (difference[0, t:] > 1e-9).all(), f"a change at {t} is lost"


def test_a_shorter_sequence_gets_the_states_of_a_prefix() -> None:
    model = Decoder(SHAPE, HyperSettings(rate=2), VOCABULARY).double()
    assert distance(model.hidden(tokens()[:, :5]), model.hidden(tokens())[:, :5]) < 1e-12
