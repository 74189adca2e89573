"""The decoder around the connections: losses, dropout, causality, documents, the output."""

from __future__ import annotations

import math

import pytest
import torch
from connections_support import distance, normal, randomise
from torch import Tensor

from harness.connections.settings import ConnectionSettings, FracSettings, HyperSettings, ResidualSettings
from harness.models.decoder import Decoder, document_mask, token_losses
from harness.models.settings import DecoderSettings

SHAPE = DecoderSettings(layers=3, width=16, heads=2, context=12, init_std=0.2)
ARMS: list[ConnectionSettings] = [ResidualSettings(), HyperSettings(rate=3), FracSettings(rate=4)]
VOCABULARY = 29
BOUNDARY = 28
PACKED = SHAPE.model_copy(update={"document_mask": True})


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


@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_an_untied_decoder_has_a_matrix_of_its_own_and_otherwise_the_same_weights(
    connection: ConnectionSettings,
) -> None:
    tied = Decoder(SHAPE, connection, VOCABULARY)
    model = Decoder(SHAPE.model_copy(update={"tied": False}), connection, VOCABULARY)
    own = dict(model.named_parameters())
    output = own.pop("unembedding.weight").detach()
    assert all(torch.equal(parameter, own[name]) for name, parameter in tied.named_parameters())
    assert len(own) == len(dict(tied.named_parameters()))
    assert output.shape == (VOCABULARY, SHAPE.width)
    assert output.std().item() == pytest.approx(SHAPE.init_std, rel=0.1)
    assert model.decays("unembedding.weight")
    model = model.double()
    expected = model.norm(model.hidden(tokens())) @ output.double().T
    assert distance(model(tokens()), expected) < 1e-12


def test_rows_for_padding_are_rows_like_others() -> None:
    settings = SHAPE.model_copy(update={"vocabulary": 64})
    model = Decoder(settings, ResidualSettings(), 64)
    assert model.embedding.weight.shape == (64, SHAPE.width)
    assert model(tokens()).shape == (2, SHAPE.context, 64)


def packed(*documents: Tensor) -> Tensor:
    """(1, T): the documents one after the other, each behind a boundary token."""
    return torch.cat([torch.cat([torch.tensor([BOUNDARY]), document]) for document in documents])[None]


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_a_document_is_understood_as_if_it_were_alone(connection: ConnectionSettings, kv_heads: int) -> None:
    model = Decoder(PACKED.model_copy(update={"kv_heads": kv_heads}), connection, VOCABULARY, boundary=BOUNDARY)
    first, second = torch.tensor([3, 1, 4, 1]), torch.tensor([5, 9, 2, 6, 5])
    together = model(packed(first, second))
    assert distance(together[:, :5], model(packed(first))) < 1e-5
    assert distance(together[:, 5:], model(packed(second))) < 1e-5
    model.boundary = None
    assert distance(model(packed(first, second))[:, 5:], model(packed(second))) > 1e-3, "there was nothing to mask"


def test_a_change_in_one_document_changes_nothing_in_another() -> None:
    model = Decoder(PACKED, HyperSettings(rate=2), VOCABULARY, boundary=BOUNDARY)
    documents = [torch.tensor([3, 1, 4]), torch.tensor([1, 5, 9]), torch.tensor([2, 6])]
    before = model.hidden(packed(*documents))
    documents[1] = torch.tensor([1, 7, 9])
    changed = (model.hidden(packed(*documents)) != before).any(dim=-1)[0]
    assert changed.tolist() == 6 * [False] + 2 * [True] + 3 * [False]


def test_a_document_begins_at_its_boundary_and_the_first_wherever_the_sequence_does() -> None:
    mask = document_mask(torch.tensor([[False, False, True, False], [True, True, False, False]]))
    assert mask.dtype == torch.bool
    assert mask.shape == (2, 1, 4, 4)
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert mask[1, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]


def test_a_document_mask_needs_a_boundary() -> None:
    with pytest.raises(ValueError, match="document_mask: no token stands between documents"):
        Decoder(PACKED, ResidualSettings(), VOCABULARY)
