"""Noise levels of the diffusion, and samples by steps that draw nothing. Axes: B batch, C channels, S image side."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from harness.data.inputs import ImageInputs
from harness.models.settings import DiTSettings

MOST_NOISE = 0.999
"""Bound on a step's beta (arXiv 2102.09672, section 3.2)."""


class NoiseSchedule(nn.Module):
    """`alpha_bar` (timesteps,): the share of the signal's variance at timestep t, t = 0 the least noisy.

    `linear` (arXiv 2006.11239, section 4): betas from 1e-4 to 0.02 over 1000 timesteps, times 1000 / timesteps for
    another number. `cosine` (arXiv 2102.09672, Eq. 17): alpha_bar is cos² of a right angle's share, with s = 0.008.
    Computed in float64 and kept in float32, as are the factors of `noisy`.
    """

    alpha_bar: Tensor
    signal: Tensor
    spread: Tensor

    def __init__(self, settings: DiTSettings):
        super().__init__()
        T = settings.timesteps
        if settings.schedule == "linear":
            betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * (1000 / T)
        else:
            share = (torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008
            left = torch.cos(share * (math.pi / 2)) ** 2
            betas = 1 - left[1:] / left[:-1]
        alpha_bar = torch.cumprod(1 - betas.clamp(max=MOST_NOISE), dim=0)
        self.register_buffer("alpha_bar", alpha_bar.float(), persistent=False)
        # Roots of their own: in float32 1 - alpha_bar has lost half its digits at t = 0.
        self.register_buffer("signal", alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("spread", (1 - alpha_bar).sqrt().float(), persistent=False)

    def noisy(self, images_BCSS: Tensor, noise_BCSS: Tensor, timesteps_B: Tensor) -> Tensor:
        """sqrt(alpha_bar) image + sqrt(1 - alpha_bar) noise (arXiv 2006.11239, Eq. 4); timesteps (B,) int64."""
        signal, spread = (x[timesteps_B, None, None, None] for x in (self.signal, self.spread))
        return signal * images_BCSS + spread * noise_BCSS


class Denoiser(Protocol):
    """What `sample` asks of a model: `DiT` in short."""

    settings: DiTSettings
    inputs: ImageInputs
    training: bool

    def __call__(self, noisy_BCSS: Tensor, timesteps_B: Tensor, labels_B: Tensor, /) -> Tensor: ...

    def train(self, mode: bool = True) -> object: ...


def sampling_timesteps(timesteps: int, steps: int) -> list[int]:
    """`steps` evenly spaced timesteps, falling; the first is the last one, where hardly any signal is left.

    Raises ValueError for fewer than 1 or more than there are."""
    if not 1 <= steps <= timesteps:
        raise ValueError(f"steps must be 1 to {timesteps}, got {steps}")
    return [round(timesteps * k / steps) - 1 for k in range(steps, 0, -1)]


@torch.no_grad()
def sample(model: Denoiser, labels_B: Tensor, noise_BCSS: Tensor, *, steps: int = 50, guidance: float = 1.0) -> Tensor:
    """(B, C, S, S) in [-1, 1]: images of the classes `labels_B` that the model sees in `noise_BCSS`.

    DDIM with eta 0 (arXiv 2010.02502, Eq. 12) over `steps` timesteps: the same noise gives the same images. Where
    `guidance` is not 1, the noise is eps_null + guidance (eps_class - eps_null), without a classifier (arXiv
    2207.12598, Eq. 6, with w = guidance - 1). The image that a step foresees is held within [-1, 1], and its noise is
    what remains. The model is in eval mode meanwhile.

    Raises ValueError for `steps` below 1 or above the model's timesteps.
    """
    times = sampling_timesteps(model.settings.timesteps, steps)
    schedule = NoiseSchedule(model.settings).to(noise_BCSS.device)
    was_training = model.training
    model.train(False)
    try:
        x, image = noise_BCSS.float(), noise_BCSS.float()
        for t, after in zip(times, [*times[1:], None], strict=True):
            noise = _predicted(model, x, t, labels_B, guidance)
            image = ((x - schedule.spread[t] * noise) / schedule.signal[t]).clamp(-1.0, 1.0)
            if after is not None:
                noise = (x - schedule.signal[t] * image) / schedule.spread[t]
                x = schedule.signal[after] * image + schedule.spread[after] * noise
        return image
    finally:
        model.train(was_training)


def _predicted(model: Denoiser, x_BCSS: Tensor, t: int, labels_B: Tensor, guidance: float) -> Tensor:
    """The model's noise at timestep t, guided; both predictions in one pass."""
    if guidance == 1.0:
        return model(x_BCSS, torch.full_like(labels_B, t), labels_B).float()
    none_B = torch.full_like(labels_B, model.inputs.classes)
    both_B = torch.cat([labels_B, none_B])
    told, untold = model(torch.cat([x_BCSS, x_BCSS]), torch.full_like(both_B, t), both_B).float().chunk(2)
    return untold + guidance * (told - untold)
