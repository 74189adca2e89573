"""Published totals of the presets, against formula and against models on the meta device, and the papers' FLOPs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from harness.connections.settings import ConnectionSettings, FracSettings, HyperSettings, MHCSettings, ResidualSettings
from harness.data.inputs import ImageInputs, Inputs, TextInputs
from harness.models import cost
from harness.models.build import build
from harness.models.cost.published import PRINTED, Printed, paper_flops_per_token
from harness.models.presets import SCALES
from harness.models.settings import AnyModel, DecoderSettings, ModelSettings
from harness.training.settings import TrainSettings

DOCS = Path(__file__).parents[2] / "docs" / "costs.md"
BYTES, DIGITS = TextInputs(257, boundary=256), ImageInputs(size=8, channels=1, classes=10)
IMAGENET, LATENTS = ImageInputs(size=224, channels=3, classes=1000), ImageInputs(size=32, channels=4, classes=1000)
STATED: dict[str, tuple[Inputs, int]] = {
    "toy": (BYTES, 620_160),
    "tiny": (BYTES, 974_880),
    "small": (BYTES, 9_558_528),
    "mid38": (BYTES, 38_089_728),
    "mid": (BYTES, 127_627_776),
    "olmo-1b": (BYTES, 1_176_764_416),
    "olmo-7b": (BYTES, 6_888_095_744),
    "olmo2-1b2": (BYTES, 1_484_916_736),
    "olmoe-1b-7b": (BYTES, 6_919_161_856),
    "vit-toy": (DIGITS, 302_154),
    "dit-toy": (DIGITS, 478_340),
    "vit-b16": (IMAGENET, 86_567_656),
    "dit-xl2": (LATENTS, 674_816_272),
}
"""What the presets' comments say; of the published models, what their papers or weights say."""
PLAIN = HyperSettings(rate=4, norm_type="layer_norm_no_affine")


def shape_of(scale: str) -> ModelSettings:
    return TypeAdapter[ModelSettings](AnyModel).validate_python(SCALES[scale]["model"])


def decoder_of(scale: str) -> DecoderSettings:
    return DecoderSettings.model_validate(SCALES[scale]["model"])


@pytest.mark.parametrize("scale", SCALES)
def test_a_preset_has_the_parameters_that_it_states(scale: str) -> None:
    inputs, stated = STATED[scale]
    shape = shape_of(scale)
    assert shape.problem() is None
    assert shape.problem_with(inputs) is None
    assert cost.parameters(shape, ResidualSettings(), inputs).total == stated
    with torch.device("meta"):
        model = build(shape, ResidualSettings(), inputs)
    assert sum(p.numel() for p in model.parameters()) == stated


@pytest.mark.parametrize(
    ("scale", "connection", "added", "total"),
    [
        ("olmo-1b", HyperSettings(rate=4, dynamic=False), 768, None),
        ("olmo-1b", HyperSettings(rate=2, dynamic=False), 256, None),
        ("olmo-1b", PLAIN, 394_048, 1_177_158_464),
        ("olmo-7b", PLAIN, 1_574_528, 6_889_670_272),
        ("olmo2-1b2", FracSettings(rate=4, dynamic=False), 1152, None),
        ("olmo2-1b2", FracSettings(rate=4, norm_type="rms_norm"), 165_056, None),
        ("olmo-1b", MHCSettings(), 32 * 196_635, None),
    ],
    ids=str,
)
def test_a_connection_adds_what_its_paper_says(
    scale: str, connection: ConnectionSettings, added: int, total: int | None
) -> None:
    """HC, App. B and Table 7; FC, section 4.4; mHC by its formula."""
    shape = decoder_of(scale)
    counted = cost.parameters(shape, connection, BYTES)
    with torch.device("meta"):
        built = sum(p.numel() for p in build(shape, connection, BYTES).parameters())
    assert counted.connection == added
    assert counted.total == built == (total or built)


def test_the_hc_papers_olmoe_total_leaves_norms_out() -> None:
    """Table 7 prints 6.91909427 B: the branches' norms and the last one, or those of queries and keys and the last
    one, are not in it."""
    shape = decoder_of("olmoe-1b-7b")
    counted = cost.parameters(shape, ResidualSettings(), BYTES)
    assert counted.total - (2 * shape.layers + 1) * shape.width == 6_919_094_272
    assert counted.active == 1_282_017_280


def test_dit_xl_differs_from_the_papers_675_m_by_its_variance_and_positions() -> None:
    """675,129,632 in the published weights: 4 more output channels, and fixed positions kept as a parameter."""
    channels, width, patches = 4, 1152, 256
    variance = 2 * 2 * channels * (width + 1)
    assert STATED["dit-xl2"][1] + variance + patches * width == 675_129_632


@pytest.mark.parametrize("scale", SCALES)
def test_a_presets_budget_is_valid_and_as_long_as_stated(scale: str) -> None:
    train = TrainSettings.model_validate(SCALES[scale]["train"])
    assert train.problem() is None
    inputs, parameters = STATED[scale]
    tokens = train.steps * train.batch_size * shape_of(scale).positions(inputs)
    if scale in ("tiny", "small", "mid38", "mid"):
        assert tokens / parameters == pytest.approx(20, rel=0.02)
    elif scale.startswith("olmo"):
        assert tokens == pytest.approx(2e12 if scale == "olmo2-1b2" else 500e9, rel=1e-5)
    assert train.batch_size % (train.micro_batch_size or 1) == 0


@pytest.mark.parametrize("scale", sorted(set(SCALES) - {"olmo-7b", "olmoe-1b-7b"}))
def test_a_presets_micro_batch_fits_an_accelerator_of_80_gb_with_four_streams(scale: str) -> None:
    train = TrainSettings.model_validate(SCALES[scale]["train"])
    batch = train.micro_batch_size or train.batch_size
    needed = cost.memory(
        shape_of(scale), HyperSettings(rate=4), STATED[scale][0], batch=batch, precision=train.precision
    )
    assert needed.total < 80e9


def flops(printed: Printed) -> tuple[float, float, float]:
    """GFLOPs per token by the papers' rules, by ours without attention's scores, and by ours."""
    shape = decoder_of(printed.scale)
    honest = cost.forward_flops_per_token(shape, printed.connection, BYTES)
    scores = shape.layers * 4 * shape.context * shape.width
    return paper_flops_per_token(shape, printed.connection, BYTES) / 1e9, (honest - scores) / 1e9, honest / 1e9


@pytest.mark.parametrize("printed", PRINTED, ids=lambda p: p.row)
def test_the_papers_flops_are_reproduced(printed: Printed) -> None:
    reproduced, without_scores, _ = flops(printed)
    assert reproduced == pytest.approx(printed.gflops, rel=2e-4)
    if printed.scale in ("olmo-1b", "olmo2-1b2"):
        assert f"{reproduced:.4f}" == f"{printed.gflops:.4f}"
    assert without_scores == pytest.approx(reproduced, rel=1e-3), "ours differs by what it counts of the connection"


@pytest.mark.parametrize("printed", PRINTED, ids=lambda p: p.row)
def test_the_documented_flops_are_these(printed: Printed) -> None:
    cells = [printed.table, printed.row, f"{printed.gflops:.4f}", *(f"{value:.4f}" for value in flops(printed))]
    assert f"| {' | '.join(cells)} |" in DOCS.read_text()


def test_no_rule_in_width_times_depth_gives_both_sizes_of_olmo() -> None:
    """In terms of one operation per element and sub-layer: what the printed digits leave for the residual alone."""
    ranges = []
    for printed in (p for p in PRINTED if p.row in ("OLMo-1B", "OLMo-7B")):
        shape = decoder_of(printed.scale)
        unit = shape.width * shape.sublayers
        products = paper_flops_per_token(shape, ResidualSettings(), BYTES) - unit
        ranges.append([((printed.gflops + half) * 1e9 - products) / unit for half in (-5e-5, 5e-5)])
    (small_from, small_to), (large_from, large_to) = ranges
    assert small_from < 1 < small_to < large_from < large_to


def test_a_connection_that_the_papers_do_not_count_is_refused() -> None:
    with pytest.raises(TypeError, match="do not count a mhc"):
        paper_flops_per_token(decoder_of("olmo-1b"), MHCSettings(), BYTES)


def test_toy_is_what_the_committed_tables_were_made_with() -> None:
    toy: dict[str, Any] = {
        "model": {"layers": 12, "width": 64, "heads": 4, "context": 64},
        "train": {"steps": 400, "batch_size": 8, "lr": 2e-3, "warmup_steps": 20},
    }
    assert SCALES["toy"] == toy
