"""Formulas of memory against saved-tensor hooks, against the peak of a step, and in the tables of docs/costs.md."""

from __future__ import annotations

import contextlib
import functools
from itertools import product
from pathlib import Path

import pytest
import torch
from cost_support import ALL_CONNECTIONS, IMAGES, MODELS, TEXT, measured_bytes, training_loss
from torch.profiler import ProfilerActivity, profile

from harness.connections.settings import ConnectionSettings, FracSettings, HyperSettings, ResidualSettings
from harness.data.inputs import Inputs, TextInputs
from harness.models import cost
from harness.models.build import build
from harness.models.decoder import token_losses
from harness.models.presets import SCALES
from harness.models.settings import DecoderSettings, DiTSettings, ModelSettings, ViTSettings

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")

RESIDUAL = ResidualSettings()
BYTES = TextInputs(257, boundary=256)
DOCS = Path(__file__).parents[2] / "docs" / "costs.md"
CONSTANT = 256
"""Bytes at most that do not grow with the batch: the mean's divisor and, of experts, tallies."""


@pytest.mark.parametrize("name", MODELS)
def test_a_residual_network_keeps_what_the_formula_says_to_the_byte(name: str) -> None:
    settings, inputs = MODELS[name]
    model = build(settings, RESIDUAL, inputs).train()
    counted = measured_bytes(model, settings, inputs, batch=3)
    assert abs(counted - 3 * cost.saved_bytes(settings, RESIDUAL, inputs)) <= CONSTANT


@pytest.mark.parametrize(
    ("layers", "width", "context", "batch"), [(1, 8, 8, 5), (5, 16, 8, 1), (2, 48, 64, 2), (3, 96, 16, 4)]
)
def test_the_formula_holds_over_widths_depths_contexts_and_batches(
    layers: int, width: int, context: int, batch: int
) -> None:
    settings = DecoderSettings(layers=layers, width=width, heads=2, context=context)
    counted = measured_bytes(build(settings, RESIDUAL, TEXT).train(), settings, TEXT, batch)
    assert abs(counted - batch * cost.saved_bytes(settings, RESIDUAL, TEXT)) <= CONSTANT


SHAPE = {"layers": 4, "width": 24, "heads": 2}
KINDS: dict[str, tuple[ModelSettings, Inputs]] = {
    "decoder": (DecoderSettings.model_validate({**SHAPE, "context": 16}), TEXT),
    "experts": (DecoderSettings.model_validate({**SHAPE, "context": 16, "experts": 4}), TEXT),
    "vit": (ViTSettings.model_validate({**SHAPE, "patch": 2}), IMAGES),
    "dit": (DiTSettings.model_validate({**SHAPE, "patch": 2}), IMAGES),
}


SOME = [c for c in ALL_CONNECTIONS if c.type in ("parallel", "altup", "laurel", "mudd", "post_norm")]
"""Connections that share or move what branches read."""


def tagged(argument: object) -> str:
    return argument.tag() if isinstance(argument, ConnectionSettings) else str(argument)


@pytest.mark.parametrize(
    ("kind", "connection"),
    [*product(["decoder"], ALL_CONNECTIONS), *product(["experts", "vit", "dit"], [*SOME, HyperSettings(rate=4)])],
    ids=tagged,
)
def test_every_connection_keeps_what_the_formula_says(kind: str, connection: ConnectionSettings) -> None:
    """Within 1 %; most to the byte but for copies of a connection's few weights."""
    settings, inputs = KINDS[kind]
    counted = measured_bytes(build(settings, connection, inputs).train(), settings, inputs, batch=4)
    assert 4 * cost.saved_bytes(settings, connection, inputs) == pytest.approx(counted, rel=0.01)


def bf16_per_example(settings: ModelSettings, connection: ConnectionSettings, inputs: Inputs) -> float:
    """The difference between batches: what autocast makes of the weights is not an example's."""
    model = build(settings, connection, inputs).train()
    small, large = (measured_bytes(model, settings, inputs, batch, "bf16") for batch in (1, 3))
    return (large - small) / 2


@pytest.mark.parametrize(
    "name", [name for name in MODELS if not name.endswith(("key-head", "untied", "padded", "wide"))]
)
def test_under_bf16_autocast_a_residual_network_keeps_what_the_formula_says(name: str) -> None:
    settings, inputs = MODELS[name]
    stated = cost.saved_bytes(settings, RESIDUAL, inputs, precision="bf16")
    assert stated == pytest.approx(bf16_per_example(settings, RESIDUAL, inputs), rel=0.01)


@pytest.mark.parametrize(
    ("kind", "connection"), [*product(["decoder"], ALL_CONNECTIONS), *product(["vit", "dit"], SOME)], ids=tagged
)
def test_under_bf16_autocast_connections_keep_about_what_the_formula_says(
    kind: str, connection: ConnectionSettings
) -> None:
    """Within 1 %; AltUp around LayerNorms, which keep views of all its streams, within 4 %."""
    settings, inputs = KINDS[kind]
    stated = cost.saved_bytes(settings, connection, inputs, precision="bf16")
    bound = 0.04 if connection.type == "altup" else 0.01
    assert stated == pytest.approx(bf16_per_example(settings, connection, inputs), rel=bound)


def peak_of_a_step(settings: ModelSettings, connection: ConnectionSettings, inputs: Inputs, precision: str) -> int:
    """Most bytes alive at once in a micro-batch of four that is not a step's first, on a CPU."""
    model = build(settings, connection, inputs).train()
    optimiser = torch.optim.AdamW(model.parameters())
    loss, _ = training_loss(model, settings, inputs, 4)
    autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    with autocast:
        loss().backward()
    optimiser.step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        with autocast:
            value = loss()
        value.backward()
    alive = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    standing = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
    standing += [t for state in optimiser.state.values() for t in state.values() if t.ndim]
    return peak + sum(tensor.nbytes for tensor in standing)


@pytest.mark.parametrize(
    ("kind", "connection", "precision"),
    [
        ("decoder", RESIDUAL, "bf16"),
        ("experts", FracSettings(rate=4), "bf16"),
        ("vit", HyperSettings(rate=4), "bf16"),
        ("dit", RESIDUAL, "fp32"),
    ],
    ids=tagged,
)
def test_the_total_is_the_peak_of_a_step(kind: str, connection: ConnectionSettings, precision: cost.Precision) -> None:
    settings, inputs = KINDS[kind]
    stated = cost.memory(settings, connection, inputs, batch=4, precision=precision)
    assert stated.total == pytest.approx(peak_of_a_step(settings, connection, inputs, precision), rel=0.1)


def test_the_parts_of_memory_are_what_they_are_called() -> None:
    settings, connection = KINDS["decoder"][0], HyperSettings(rate=2)
    one, two = (cost.memory(settings, connection, TEXT, batch=batch, precision="fp32") for batch in (1, 2))
    count = cost.parameters(settings, connection, TEXT).total
    assert (one.weights, one.gradients, one.optimiser) == (4 * count, 4 * count, 8 * count)
    assert one.activations + one.streams == cost.saved_bytes(settings, connection, TEXT)
    assert one.activations == cost.saved_bytes(settings, RESIDUAL, TEXT)
    assert (two.activations, two.streams, two.workspace) == (2 * one.activations, 2 * one.streams, 2 * one.workspace)
    assert cost.memory(settings, RESIDUAL, TEXT, batch=1, precision="fp32").streams == 0


def test_a_gpu_keeps_less_of_rms_norms_and_more_of_layer_norms() -> None:
    """By torch's derivatives: measured only where there is a GPU."""
    shape = {"layers": 2, "width": 32, "heads": 4, "context": 24}
    rms = DecoderSettings.model_validate(shape)
    layer = DecoderSettings.model_validate({**shape, "norm_type": "layer_norm"})
    for settings, precision, difference in (
        (rms, "fp32", -4),
        (rms, "bf16", -4),
        (layer, "fp32", 0),
        (layer, "bf16", 2),
    ):
        cpu, gpu = (
            cost.saved_bytes(settings, RESIDUAL, TEXT, precision=precision, place=place)  # type: ignore[arg-type]
            for place in ("cpu", "cuda")
        )
        assert gpu - cpu == difference * 5 * 32 * 24, "of four branches and the output, for every token"


@pytest.mark.parametrize("rate", [1, 2, 4])
def test_traffic_is_the_mhc_papers_table(rate: int) -> None:
    """arXiv 2512.24880, Table 2, per token and sub-layer: 3 C for the residual, HC (5n + 1) C + n^2 + 2n read."""
    settings, width, small = KINDS["decoder"][0], 24, rate**2 + 2 * rate
    assert cost.traffic(settings, RESIDUAL) == (2 * width, width)
    expected = ((5 * rate + 1) * width + small, (3 * rate + 1) * width + small)
    assert cost.traffic(settings, HyperSettings(rate=rate)) == expected


ARMS: list[ConnectionSettings] = [
    *[HyperSettings(rate=n, dynamic=dynamic) for n in (2, 4) for dynamic in (False, True)],
    *[FracSettings(rate=4, dynamic=dynamic) for dynamic in (False, True)],
]
TINY, OLMO = (DecoderSettings.model_validate(SCALES[scale]["model"]) for scale in ("tiny", "olmo-1b"))


@functools.cache
def memory_of(connection: ConnectionSettings) -> tuple[int, ...]:
    """Saved bytes of one sequence of `tiny` by formula and by hooks; of OLMo-1B in bf16 on a GPU by formula, and there
    the total of a step with micro-batches of four."""
    return (
        cost.saved_bytes(TINY, connection, BYTES),
        measured_bytes(build(TINY, connection, BYTES).train(), TINY, BYTES, 1),
        cost.saved_bytes(OLMO, connection, BYTES, precision="bf16", place="cuda"),
        cost.memory(OLMO, connection, BYTES, batch=4, precision="bf16", place="cuda").total,
    )


@pytest.mark.parametrize("connection", ARMS, ids=lambda c: c.tag())
def test_the_documented_overheads_are_measured(connection: ConnectionSettings) -> None:
    both = zip(memory_of(RESIDUAL), memory_of(connection), strict=True)
    cells = [f"+{100 * (more / base - 1):.1f} %" for base, more in both]
    assert f"| {connection.tag()} | {' | '.join(cells)} |" in DOCS.read_text()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("connection", [RESIDUAL, HyperSettings(rate=4)], ids=lambda c: c.tag())
def test_the_total_is_the_peak_on_a_gpu(connection: ConnectionSettings) -> None:
    """Preset mid38 in its own precision, eight sequences, in the second of two micro-batches."""
    settings = DecoderSettings.model_validate(SCALES["mid38"]["model"])
    model = build(settings, connection, BYTES).train().cuda()
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    tokens = torch.randint(0, 256, (8, settings.context + 1), device="cuda")

    def backward() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = token_losses(model(tokens[:, :-1]), tokens[:, 1:]).mean()
        loss.backward()

    backward()
    optimiser.step()
    torch.cuda.reset_peak_memory_stats()
    backward()
    stated = cost.memory(settings, connection, BYTES, batch=8, precision="bf16", place="cuda").total
    assert stated == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.1)
