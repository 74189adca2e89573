"""The table of accelerators: names as torch reports them, dense peaks, and utilisation."""

from __future__ import annotations

import pytest

from harness.connections.settings import HyperSettings, ResidualSettings
from harness.data.inputs import TextInputs
from harness.models import cost
from harness.models.cost.devices import OTHER_CHIPS
from harness.models.presets import SCALES
from harness.models.settings import DecoderSettings

SPARSE_BF16 = {
    "A100": 624e12,
    "A10": 250e12,
    "A10G": 140e12,
    "L4": 242e12,
    "L40S": 733e12,
    "H100": 1979e12,
    "H100 PCIe": 1513e12,
    "H100 NVL": 1671e12,
    "H200": 1979e12,
    "H200 NVL": 1671e12,
    "GH200": 1979e12,
    "B200": 4500e12,
    "MI300X": 2614.9e12,
    "RTX 3090": 142e12,
    "RTX 4090": 330.4e12,
}
"""What the data sheets print with sparsity. MI250X has none, T4 and V100 no bf16."""

SHAPE, INPUTS = DecoderSettings.model_validate(SCALES["olmo-1b"]["model"]), TextInputs(257)


@pytest.mark.parametrize(
    ("reported", "entry"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA GH200 144G HBM3e", "GH200 144G"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM4 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIE 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIE 80GB"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100 SXM2 16GB"),
        ("Tesla V100-PCIE-32GB", "V100 PCIE 32GB"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("AMD Instinct MI250X", "MI250X"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_a_device_is_found_by_the_name_that_torch_reports(reported: str, entry: str) -> None:
    found = cost.find_device(reported)
    assert found is not None
    assert found.name == entry
    assert cost.find_device(reported.upper()) is found


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cpu",
        "NVIDIA L40",
        "NVIDIA RTX A1000",
        "NVIDIA A100",
        "NVIDIA H800",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    ],
)
def test_what_is_not_in_the_table_is_not_guessed(name: str) -> None:
    assert cost.find_device(name) is None


def test_every_entry_can_be_found_and_no_two_are_alike() -> None:
    assert len({device.name for device in cost.DEVICES}) == len(cost.DEVICES)
    for device in cost.DEVICES:
        assert cost.find_device(device.name) is device
        assert not set(device.name.lower().split()) & OTHER_CHIPS


@pytest.mark.parametrize("device", cost.DEVICES, ids=lambda d: d.name)
def test_no_peak_is_a_sparse_one(device: cost.Device) -> None:
    family = max((name for name in SPARSE_BF16 if device.name.startswith(name)), key=len, default=None)
    if family is None:
        assert device.bf16 is None or device.name == "MI250X"
    else:
        assert device.bf16 == pytest.approx(SPARSE_BF16[family] / 2, rel=0.02)


@pytest.mark.parametrize("device", cost.DEVICES, ids=lambda d: d.name)
def test_the_numbers_of_a_device_go_together(device: cost.Device) -> None:
    """A unit mistaken would show: operations per byte in fp32, products in bf16 over fp32, bytes of memory."""
    assert 8 <= device.fp32 / device.bandwidth <= 110
    assert device.bf16 is None or 1.9 <= device.bf16 / device.fp32 <= 30
    assert 16e9 <= device.memory <= 200e9


def test_utilisation_is_the_formulas_operations_over_the_peak() -> None:
    rate = 10.0
    found = cost.mfu(
        SHAPE, ResidualSettings(), INPUTS, examples_per_second=rate, device_name="NVIDIA H100 NVL", precision="bf16"
    )
    assert found == pytest.approx(rate * cost.training_flops(SHAPE, ResidualSettings(), INPUTS) / 835.5e12)
    assert 0 < found < 1
    more = cost.mfu(
        SHAPE, HyperSettings(rate=4), INPUTS, examples_per_second=rate, device_name="NVIDIA H100 NVL", precision="bf16"
    )
    assert more is not None
    assert found < more < 1.01 * found


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp32"), ("NVIDIA H800", "bf16"), ("Tesla T4", "bf16")])
def test_there_is_no_utilisation_of_an_unknown_peak(device: str, precision: cost.Precision) -> None:
    found = cost.mfu(
        SHAPE, ResidualSettings(), INPUTS, examples_per_second=1.0, device_name=device, precision=precision
    )
    assert found is None


def test_a_published_rate_is_no_more_than_the_peak() -> None:
    """A check on units: 11,000 tokens a second of a 7B decoder in bf16 is about the most that anyone gets of an H100."""
    shape = DecoderSettings.model_validate(SCALES["olmo-7b"]["model"])
    found = cost.mfu(
        shape,
        ResidualSettings(),
        INPUTS,
        examples_per_second=11_000 / shape.context,
        device_name="NVIDIA H100 80GB HBM3",
        precision="bf16",
    )
    assert found is not None
    assert 0.3 < found < 0.7
