"""What the tests of costs share: forms of every model, every connection, and a training loss to measure."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.connections.settings import CONNECTIONS, ConnectionSettings, FracSettings, GHCSettings, HyperSettings
from harness.data.inputs import ImageInputs, Inputs, TextInputs
from harness.models.decoder import token_losses
from harness.models.settings import DecoderSettings, DiTSettings, ModelSettings, ViTSettings
from harness.training.meters import saved_bytes

TEXT = TextInputs(61, boundary=60)
IMAGES = ImageInputs(size=8, channels=3, classes=10)

DECODERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "one-key-head": {"kv_heads": 1},
    "layer-norm": {"norm_type": "layer_norm"},
    "no-affine": {"norm_type": "layer_norm_no_affine"},
    "after": {"norm_position": "after"},
    "layer-norm-after": {"norm_position": "after", "norm_type": "layer_norm"},
    "qk-norm": {"qk_norm": True},
    "grouped-qk-norm": {"qk_norm": True, "kv_heads": 2},
    "untied": {"tied": False},
    "padded": {"vocabulary": 96},
    "documents": {"document_mask": True},
    "dropout": {"dropout": 0.1},
    "experts": {"experts": 4, "experts_per_token": 2},
    "one-expert": {"experts": 8, "experts_per_token": 1, "ffn_width": 48},
    "experts-after": {"experts": 4, "experts_per_token": 3, "norm_position": "after", "qk_norm": True},
    "wide": {"width": 64, "heads": 2, "ffn_width": 24},
}
PATCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "qk-norm": {"qk_norm": True},
    "dropout": {"dropout": 0.1},
    "narrow": {"ffn_width": 24, "patch": 4},
}
MODELS: dict[str, tuple[ModelSettings, Inputs]] = {
    **{
        f"decoder-{name}": (DecoderSettings.model_validate({**_shape, **form}), TEXT)
        for _shape in [{"layers": 2, "width": 32, "heads": 4, "context": 24}]
        for name, form in DECODERS.items()
    },
    **{
        f"{kind.model_fields['type'].default}-{name}": (kind.model_validate({**_shape, **form}), IMAGES)
        for _shape in [{"layers": 2, "width": 32, "heads": 4, "patch": 2}]
        for kind in (ViTSettings, DiTSettings)
        for name, form in PATCHES.items()
    },
    "vit-mean": (ViTSettings(layers=2, width=32, heads=4, patch=2, pool="mean"), IMAGES),
}
"""Every form of every model, small."""

ALL_CONNECTIONS: list[ConnectionSettings] = [
    *[HyperSettings(rate=n, dynamic=dynamic) for n in (2, 4) for dynamic in (False, True)],
    *[FracSettings(rate=m, dynamic=dynamic) for m in (2, 4) for dynamic in (False, True)],
    GHCSettings(fractions=2, slots=3),
    *[kind() for name, kind in CONNECTIONS.items() if name not in ("hyper", "frac", "ghc")],
]
"""Every type at its default settings, at the usual rates."""


def training_loss(
    model: nn.Module, settings: ModelSettings, inputs: Inputs, batch: int
) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """The loss of a training step on random data, and those data."""
    generator = torch.Generator().manual_seed(1)
    draw = functools.partial(torch.randint, generator=generator)
    if isinstance(inputs, TextInputs):
        assert isinstance(settings, DecoderSettings)
        tokens = draw(0, inputs.vocabulary, (batch, settings.context + 1))
        return lambda: token_losses(model(tokens[:, :-1]), tokens[:, 1:]).mean(), [tokens]
    images = torch.randn(batch, inputs.channels, inputs.size, inputs.size, generator=generator)
    labels = draw(0, inputs.classes, (batch,))
    if isinstance(settings, ViTSettings):
        return lambda: F.cross_entropy(model(images).float(), labels, reduction="none").mean(), [images, labels]
    assert isinstance(settings, DiTSettings)
    timesteps, noise = draw(0, settings.timesteps, (batch,)), torch.randn(images.shape, generator=generator)

    def denoising() -> Tensor:
        return (model(images, timesteps, labels).float() - noise).square().flatten(1).mean(dim=1).mean()

    return denoising, [images, labels, timesteps, noise]


def measured_bytes(
    model: nn.Module, settings: ModelSettings, inputs: Inputs, batch: int, precision: str = "fp32"
) -> int:
    """What saved-tensor hooks count in a forward pass with its loss, on a CPU."""
    loss, data = training_loss(model, settings, inputs, batch)
    with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext():
        return saved_bytes(loss, [*model.parameters(), *model.buffers(), *data])
