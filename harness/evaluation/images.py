"""Models of images judged on held-out images: accuracy; error by noise level, and samples to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from harness.data.images import ImageSet, scaled
from harness.evaluation.settings import EvaluationSettings
from harness.models.diffusion import NoiseSchedule, sample
from harness.models.dit import DiT
from harness.models.network import Network
from harness.models.settings import DiTSettings

LEVELS = 10
"""Noise levels at which a denoiser is judged: the middles of as many equal parts of its timesteps."""

NOISE_SEED = 20090
"""Held-out images get the same noise in every cell, and samples start from the same."""

PIECE = 64

FRAME = 96
"""Grey of the lines between samples."""


def level_names() -> list[str]:
    """`noise_05` ... `noise_95`: the level as a percentage of the timesteps."""
    return [f"noise_{100 * level // LEVELS + 50 // LEVELS:02d}" for level in range(LEVELS)]


def level_timesteps(levels_B: Tensor, timesteps: int) -> Tensor:
    """(B,) int64: the timestep of every level."""
    return (2 * levels_B + 1) * timesteps // (2 * LEVELS)


def fixed_noise(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(NOISE_SEED).standard_normal(shape, dtype=np.float32)


@torch.no_grad()
def classify(model: Network, images_BCSS: Tensor, labels_B: Tensor) -> tuple[float, int, Tensor]:
    """(sum of the nats, how many are right, (B,) nats) of a batch."""
    logits = model(images_BCSS).float()
    nats = F.cross_entropy(logits, labels_B, reduction="sum").double().item()
    right = int((logits.argmax(dim=1) == labels_B).sum())
    return nats, right, F.cross_entropy(logits, labels_B, reduction="none")


@torch.no_grad()
def denoise(
    model: Network, schedule: NoiseSchedule, images_BCSS: Tensor, labels_B: Tensor, levels_B: Tensor, noise: Tensor
) -> Tensor:
    """(B,) mean squared error per pixel and channel of the predicted noise, in float64; levels are 0 ... LEVELS - 1."""
    assert isinstance(model.settings, DiTSettings)
    timesteps = level_timesteps(levels_B, model.settings.timesteps)
    schedule = schedule.to(images_BCSS.device)
    predicted = model(schedule.noisy(images_BCSS, noise, timesteps), timesteps, labels_B)
    return (predicted.float() - noise).double().square().flatten(1).mean(dim=1)


def score_classifier(model: Network, images: ImageSet) -> dict[str, float]:
    """`eval/classification/acc` and `/loss` over the whole held-out side."""
    nats, right, device = 0.0, 0, next(model.parameters()).device
    for start in range(0, len(images.valid), PIECE):
        chosen = np.arange(start, min(start + PIECE, len(images.valid)))
        labels = torch.from_numpy(images.valid.labels[chosen]).to(device)
        pixels = torch.from_numpy(scaled(images.valid.pixels(chosen))).to(device)
        one_nats, one_right, _ = classify(model, pixels, labels)
        nats, right = nats + one_nats, right + one_right
    count = len(images.valid)
    return {
        "eval/classification/acc": right / count,
        "eval/classification/acc_stderr": (right / count * (1 - right / count) / max(count - 1, 1)) ** 0.5,
        "eval/classification/loss": nats / count,
        "eval/classification/documents": float(count),
    }


def score_denoiser(
    model: Network, images: ImageSet, settings: EvaluationSettings, picture: Path | None
) -> dict[str, float]:
    """`eval/denoising/mse` over the held-out images at every noise level, and at each; samples into `picture`."""
    assert isinstance(model, DiT)
    device, schedule = next(model.parameters()).device, NoiseSchedule(model.settings)
    count = min(len(images.valid), settings.images)
    chosen = np.arange(count) * len(images.valid) // count
    noise = fixed_noise((count, images.inputs.channels, images.inputs.size, images.inputs.size))
    sums = torch.zeros(LEVELS, dtype=torch.float64)
    for start in range(0, count, PIECE):
        part = chosen[start : start + PIECE]
        pixels = torch.from_numpy(scaled(images.valid.pixels(part))).to(device)
        labels = torch.from_numpy(images.valid.labels[part]).to(device)
        for level in range(LEVELS):
            levels = torch.full_like(labels, level)
            drawn = torch.from_numpy(noise[start : start + len(part)]).to(device)
            sums[level] += denoise(model, schedule, pixels, labels, levels, drawn).sum().cpu()
    scores = {
        f"eval/denoising/{name}": value for name, value in zip(level_names(), (sums / count).tolist(), strict=True)
    }
    scores["eval/denoising/mse"] = (sums.sum() / (count * LEVELS)).item()
    scores["eval/denoising/documents"] = float(count)
    if picture is not None:
        draw_samples(model, images, settings, picture)
    return scores


def draw_samples(model: DiT, images: ImageSet, settings: EvaluationSettings, picture: Path) -> None:
    """A PNG of samples, a row for each of the first classes, `samples_per_class` columns, from the same noise in every
    cell."""
    from PIL import Image

    if images.inputs.channels not in (1, 3):
        return  # latents of an autoencoder are nothing to look at
    rows, columns, size = min(images.inputs.classes, 16), settings.samples_per_class, images.inputs.size
    device = next(model.parameters()).device
    labels = torch.arange(rows).repeat_interleave(columns).to(device)
    noise = torch.from_numpy(fixed_noise((rows * columns, images.inputs.channels, size, size))).to(device)
    drawn = sample(model, labels, noise, steps=settings.sampling_steps, guidance=settings.guidance)
    pixels: NDArray[Any] = ((drawn.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    framed = np.pad(pixels, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=FRAME).reshape(
        rows, columns, -1, *[size + 1] * 2
    )
    grid = framed.transpose(0, 3, 1, 4, 2).reshape(rows * (size + 1), columns * (size + 1), -1)
    temporary = picture.with_suffix(".tmp")
    shown = Image.fromarray(grid[..., 0] if grid.shape[-1] == 1 else grid)
    enlarged = max(1, 480 // shown.width)
    shown.resize((shown.width * enlarged, shown.height * enlarged), Image.Resampling.NEAREST).save(temporary, "PNG")
    temporary.replace(picture)
