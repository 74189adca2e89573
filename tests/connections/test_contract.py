"""The contract: every type, in every form that it has, obeys every law that concerns it (`harness/conform/laws`).

A new type is one row here. The laws hold the tensor code against references written from the equations, formulas
against counts, and the wiring against what is measured from outside; `harness conform TYPE` prints what they find.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from harness.conform.hold import hold_law
from harness.conform.laws import LAWS
from harness.conform.ours import own_subject
from harness.conform.references import REFERENCES
from harness.connections.settings import CONNECTIONS, ConnectionSettings
from harness.models.decoder import Decoder, token_losses
from harness.models.settings import DecoderSettings
from harness.training.meters import saved_activation_bytes
from harness.training.optim import parameter_groups

STRENGTHS = ("dynamic", "static", "frozen")
MIXED = [  # but all dynamic and all static, which are rows already
    how for how in itertools.product(STRENGTHS, repeat=3) if set(how) not in ({"dynamic"}, {"static"})
]
SWITCHES: list[dict[str, Any]] = [
    {"tanh": False}, {"norm": False}, {"scale": False}, {"norm": False, "tanh": False, "scale": False},
    {"norm_type": "rms_norm"}, {"norm_type": "layer_norm_no_affine"},
]  # fmt: skip

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("residual", {}),
    ("post_norm", {}),
    ("parallel", {}),
    *[("rezero", {"norm": norm, "shared": shared}) for norm in (True, False) for shared in (True, False)],
    *[("laurel", {"variant": variant}) for variant in ("rw", "lr", "rw_lr")],
    ("laurel", {"variant": "pa", "rank": 4, "previous": 2}),
    ("resi_dual", {}),
    *[("altup", {"rate": n}) for n in (2, 3)],
    ("denseformer", {}),
    ("denseformer", {"dilation": 2, "period": 2}),
    *[("hyper", {"rate": n, "dynamic": dynamic}) for n in (1, 2, 3, 4, 8) for dynamic in (False, True)],
    *[("hyper", {"rate": 4, **switch}) for switch in SWITCHES],
    *[("hyper", {"rate": 3, "A_m": m, "A_r": r, "B": b}) for m, r, b in MIXED],
    *[("hyper", {"rate": 4, "stagger": stagger}) for stagger in ("first", "uniform")],
    *[("frac", {"rate": m, "dynamic": dynamic}) for m in (1, 2, 3, 4, 8) for dynamic in (False, True)],
    *[("frac", {"rate": 4, **switch}) for switch in SWITCHES],
    *[("frac", {"rate": 2, "Y": y, "A": a, "B": b}) for y, a, b in MIXED],
    *[
        ("ghc", {"fractions": m, "slots": n, "dynamic": dynamic})
        for m, n in ((1, 4), (2, 2), (2, 3), (2, 4))
        for dynamic in (False, True)
    ],
    *[("ghc", {"fractions": 2, "slots": 4, **switch}) for switch in ({"tanh": False}, {"norm": False})],
    ("ghc", {"fractions": 1, "slots": 4, "stagger": "cyclic"}),
    *[("mhc", {"rate": n}) for n in (2, 4)],
    ("mhc", {"rate": 3, "iterations": 5}),
    *[("mhc_lite", {"rate": n}) for n in (2, 3, 4)],
    *[("identity_hc", {"rate": n}) for n in (2, 4)],
    ("attention_residuals", {}),
    ("attention_residuals", {"heads": 4}),
    ("attention_residuals", {"variant": "delta"}),
    *[("attention_residuals", {"variant": "block", "blocks": blocks}) for blocks in (1, 2, 3, 4)],
    ("mudd", {}),
]

SETTINGS: list[ConnectionSettings] = [CONNECTIONS[kind].model_validate({"type": kind, **raw}) for kind, raw in ROWS]
NEVER_WAIVED = (
    "equations", "start_function", "finite_differences", "tokens_apart", "sequences_apart", "seed_determinism",
    "cost_parameters", "cost_flops", "cost_saved_bytes",
)  # fmt: skip
UNBOUNDED = "nonorm-notanh-noscale"
# Types that change what a branch keeps inside: without its norm, or with query, key and value apart.
IN_A_MODEL = [s for s in SETTINGS if not s.tag().startswith(("rezero-nonorm", "mudd"))]


def name(settings: ConnectionSettings) -> str:
    return settings.tag()


def test_every_type_has_a_row_and_a_reference() -> None:
    assert {kind for kind, _ in ROWS} == CONNECTIONS.keys()
    own = {name for name, kind in CONNECTIONS.items() if kind.reference is not ConnectionSettings.reference}
    assert REFERENCES.keys() | own == CONNECTIONS.keys()
    assert len({settings.tag() for settings in SETTINGS}) == len(SETTINGS), "tags tell settings apart"


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_a_type_obeys_every_law(settings: ConnectionSettings) -> None:
    findings = {law: hold_law(own_subject(settings), LAWS[law]) for law in LAWS}
    assert {law: f.evidence for law, f in findings.items() if f.verdict == "fail"} == {}
    for law in (*NEVER_WAIVED, *(() if UNBOUNDED in settings.tag() else ("deep_bf16",))):
        assert findings[law].verdict == "pass", f"{law} was not asked: {findings[law].evidence}"


@pytest.mark.parametrize("settings", IN_A_MODEL[::3], ids=name)
def test_saved_bytes_in_a_decoder_differ_from_the_residuals_by_the_formula(settings: ConnectionSettings) -> None:
    """What the laws count with bare branches is what a training step of a real model keeps."""
    shape = DecoderSettings(layers=4, width=48, heads=4, context=8)

    def per_token(connection: ConnectionSettings) -> float:
        counts = []
        for length in (4, 8):
            tokens = torch.zeros(1, length + 1, dtype=torch.long)
            model = Decoder(shape, connection, 11)
            counts.append(
                saved_activation_bytes(model, [tokens], lambda net, x: token_losses(net(x[:, :-1]), x[:, 1:]))
            )
        return (counts[1] - counts[0]) / 4

    residual = CONNECTIONS["residual"]()
    stated = settings.saved_bytes(48, 8) - residual.saved_bytes(48, 8)
    assert per_token(settings) - per_token(residual) == stated


@pytest.mark.parametrize("settings", SETTINGS[::2], ids=name)
def test_in_a_decoder_the_backbone_is_everybodys_and_every_parameter_has_one_group(
    settings: ConnectionSettings,
) -> None:
    shape = DecoderSettings(layers=4, width=48, heads=4, context=8)
    model = Decoder(shape, settings, 11, backbone_seed=3, connection_seed=4)
    residual = Decoder(shape, CONNECTIONS["residual"](), 11, backbone_seed=3, connection_seed=9)
    if settings.output_init_factor() == 1.0:
        assert model.backbone_digest() == residual.backbone_digest()
    again = Decoder(shape, settings, 11, backbone_seed=5, connection_seed=4)
    for key, value in model.connections.state_dict().items():
        assert torch.equal(value, again.connections.state_dict()[key]), "the connection has a stream of its own"
    groups = parameter_groups(model, weight_decay=0.1)
    named = [name for group in groups for name in group["names"]]  # type: ignore[attr-defined]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
    (decayed,) = [group["names"] for group in groups if group["weight_decay"]]
    assert not any("static" in name or "bias" in name or "norm" in name for name in decayed)  # type: ignore[attr-defined]


def test_a_connection_that_draws_numbers_draws_them_from_its_own_seed() -> None:
    shape = DecoderSettings(layers=3, width=16, heads=2, context=8)
    one, same, other = (Decoder(shape, CONNECTIONS["mudd"](), 11, connection_seed=seed) for seed in (1, 1, 2))
    weights = [model.connections.get_parameter("blocks.0.w1") for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.backbone_digest() == other.backbone_digest()


DECAYED = {
    "hyper": {"dynamic_alpha_fn", "dynamic_beta_fn"},
    "frac": {"dynamic_alpha_fn", "dynamic_beta_fn"},
    "ghc": {"dynamic_alpha_fn", "dynamic_beta_fn"},
    "mhc": {"phi"},
    "mhc_lite": {"phi"},
    "identity_hc": {"phi"},
    "laurel": {"down", "up"},
    "mudd": {"w1", "w2"},
}
"""By type, the parameters that take weight decay; of all other types none do."""


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_exactly_the_projections_decay(settings: ConnectionSettings) -> None:
    stack = settings.build(48, 8)
    names = {parameter.rsplit(".", 1)[-1] for parameter, _ in stack.named_parameters()}
    decayed = {parameter.rsplit(".", 1)[-1] for parameter, _ in stack.named_parameters() if stack.decays(parameter)}
    assert decayed == DECAYED.get(settings.type, set()) & names
