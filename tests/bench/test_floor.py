"""Floors against numbers worked out by hand."""

from __future__ import annotations

import pytest

from harness.bench.floor import Conditions, compulsory, distance
from harness.connections.settings import (
    CONNECTIONS,
    ConnectionSettings,
    FracSettings,
    GHCSettings,
    HyperSettings,
    IdentityHCSettings,
    MHCSettings,
    MUDDSettings,
    ResidualSettings,
)

RESIDUAL = ResidualSettings()


@pytest.mark.parametrize(
    ("settings", "forward", "backward"),
    [
        (RESIDUAL, 3, 3),
        (HyperSettings(rate=2), 6, 9),
        (HyperSettings(rate=4), 10, 15),
        (HyperSettings(rate=4, dynamic=False), 10, 15),
        (HyperSettings(rate=1), 4, 6),
        (FracSettings(rate=2), 4, 6),
        (FracSettings(rate=4, dynamic=False), 4, 6),
        (MHCSettings(rate=4), 10, 15),
        (IdentityHCSettings(rate=2), 6, 9),
        (GHCSettings(fractions=2, slots=3), 5, 7.5),  # a state of 1.5 D
    ],
    ids=lambda value: value.tag() if isinstance(value, ConnectionSettings) else str(value),
)
def test_a_pass_moves_state_output_and_input_once(
    settings: ConnectionSettings, forward: float, backward: float
) -> None:
    found = compulsory(settings, 256)
    assert found is not None
    assert (found.forward, found.backward) == (forward * 256, backward * 256)
    assert found.total == (forward + backward) * 256


def test_a_type_without_rows_has_no_floor() -> None:
    for kind in ("mudd", "denseformer", "attention_residuals", "laurel", "resi_dual", "altup", "parallel", "post_norm"):
        assert compulsory(CONNECTIONS[kind].model_validate({"type": kind}), 64) is None, kind
    with pytest.raises(ValueError, match="mudd"):
        distance(MUDDSettings(), RESIDUAL, 1.2, CPU_ROW)


CPU_ROW = Conditions(dim=256, sublayers=12, tokens=4096, word=4, bandwidth=25e9, baseline_seconds=1.2)


def test_the_floor_of_the_row_of_a_cpu() -> None:
    """DHC with four streams moves 25 · 256 numbers of 4 bytes, the residual 6 · 256: 19,456 bytes more a token, 79.7 MB
    for 4,096 tokens, 3.19 ms at 25 GB/s; twelve of them are 38.3 ms of a step of 1.2 s."""
    found = distance(HyperSettings(rate=4), RESIDUAL, 1.10, CPU_ROW)
    assert found.bytes == 19 * 256 * 4 * 4096 == 79_691_776
    assert found.floor_ratio == pytest.approx(1 + 12 * 79_691_776 / 25e9 / 1.2) == pytest.approx(1.0319, abs=1e-4)
    assert found.seconds == pytest.approx(0.010)
    assert found.bandwidth == pytest.approx(7.97e9, rel=1e-3)


def test_what_is_paid_at_the_floor_is_the_bandwidth_of_a_copy() -> None:
    floor = distance(FracSettings(rate=4), RESIDUAL, 1.0, CPU_ROW).floor_ratio
    assert floor == pytest.approx(1.00671, abs=1e-5)  # 4 · 256 · 4 · 4096 bytes, twelve times, of 30 GB
    assert distance(FracSettings(rate=4), RESIDUAL, floor, CPU_ROW).bandwidth == pytest.approx(25e9)


def test_half_the_bytes_in_bf16() -> None:
    half = Conditions(dim=256, sublayers=12, tokens=4096, word=2, bandwidth=25e9, baseline_seconds=1.2)
    settings = HyperSettings(rate=2)
    assert 2 * distance(settings, RESIDUAL, 1.1, half).bytes == distance(settings, RESIDUAL, 1.1, CPU_ROW).bytes


def test_an_arm_that_was_no_slower_has_moved_nothing_in_no_time() -> None:
    found = distance(FracSettings(rate=2), RESIDUAL, 0.99, CPU_ROW)
    assert found.bandwidth is None
    assert found.seconds < 0


def test_operations_are_those_beyond_the_residual_three_times_over() -> None:
    """SHC with four streams: 2 · 256 · 4 · 5 to mix them, 2 · 256 · 4 to write, 12,288 a token and sub-layer where the
    residual has 256; 4 · 256 at the end. A step is three forward passes."""
    found = distance(HyperSettings(rate=4, dynamic=False), RESIDUAL, 1.1, CPU_ROW)
    assert found.flops == 3 * (12 * (12_288 - 256) + 1024) * 4096 // 12
