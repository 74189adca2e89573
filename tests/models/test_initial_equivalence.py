"""Arms of one seed: bit-equal shared weights, and at initialisation the same function as the pre-norm residual."""

from __future__ import annotations

import math

import pytest
import torch
from connections_support import distance

from harness.connections.settings import ConnectionSettings, FracSettings, HyperSettings, ResidualSettings
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings

VOCABULARY = 257
SHAPE = {"layers": 12, "width": 64, "heads": 4, "context": 64}
ARMS: list[ConnectionSettings] = [
    *[HyperSettings(rate=n, dynamic=dynamic) for n in (1, 2, 3, 4) for dynamic in (False, True)],
    *[FracSettings(rate=m, dynamic=dynamic) for m in (1, 2, 4, 8) for dynamic in (False, True)],
    HyperSettings(rate=2, tanh=False, norm_type="rms_norm"),
    FracSettings(rate=2, tanh=False, norm=False, scale=False),
]


def decoder(connection: ConnectionSettings, init_std: float = 0.02, seed: int = 3) -> Decoder:
    return Decoder(DecoderSettings(**SHAPE, init_std=init_std), connection, VOCABULARY, backbone_seed=seed)


def tokens() -> torch.Tensor:
    return torch.randint(VOCABULARY, (2, 64), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("init_std", [0.02, 0.1])
@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_the_state_before_the_final_norm_is_the_residuals_or_n_times_it(
    connection: ConnectionSettings, init_std: float
) -> None:
    """Streams start as n copies and are summed, so HC gives n times the state; fractions are only joined."""
    residual, arm = decoder(ResidualSettings(), init_std), decoder(connection, init_std)
    with torch.no_grad():
        expected, hidden = residual.hidden(tokens()), arm.hidden(tokens())
        assert distance(residual.embedding(tokens()), expected) > 0.1, "the branches do nothing"
    factor = connection.rate if isinstance(connection, HyperSettings) else 1
    assert distance(hidden, factor * expected) <= 1e-6
    assert arm.backbone_digest() == residual.backbone_digest()


@pytest.mark.parametrize("connection", [HyperSettings(rate=4), FracSettings(rate=4)], ids=lambda c: c.tag())
def test_the_logits_are_the_residuals_up_to_the_epsilon_of_the_final_norm(connection: ConnectionSettings) -> None:
    with torch.no_grad():
        expected, logits = (decoder(c, init_std=0.2)(tokens()) for c in (ResidualSettings(), connection))
    assert distance(logits, expected) < 1e-4


def test_the_digest_is_of_the_shared_weights_and_nothing_else() -> None:
    one = decoder(HyperSettings(rate=2))
    before = one.backbone_digest()
    with torch.no_grad():
        one.connections.sublayers[0].static_alpha += 1.0
        assert one.backbone_digest() == before
        one.branches[0].norm.weight[0] += 1e-6
    assert one.backbone_digest() != before
    assert decoder(HyperSettings(rate=2), seed=4).backbone_digest() != before


@pytest.mark.parametrize("rate", [2, 3, 4])
@pytest.mark.parametrize(
    ("option", "power"), [("none", 0.0), ("div_sqrt_n", -0.5), ("mul_sqrt_n", 0.5), ("div_n", -1.0)]
)
def test_output_init_scale_scales_the_output_projections_alone(option: str, power: float, rate: int) -> None:
    plain = decoder(HyperSettings(rate=rate)).state_dict()
    scaled = decoder(HyperSettings.model_validate({"rate": rate, "output_init_scale": option})).state_dict()
    factor = rate**power
    assert HyperSettings.model_validate({"rate": rate, "output_init_scale": option}).output_init_factor() == (
        pytest.approx(factor)
    )
    outputs = {name for name in plain if name.endswith(".out.weight")}
    assert len(outputs) == 24
    for name, weight in plain.items():
        if name not in outputs or power == 0.0:
            assert torch.equal(scaled[name], weight), name
        elif math.log2(factor).is_integer():
            assert torch.equal(scaled[name], factor * weight), name
        else:  # the factor is rounded once more
            torch.testing.assert_close(scaled[name], factor * weight, rtol=3e-7, atol=0.0)
