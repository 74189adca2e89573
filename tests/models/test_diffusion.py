"""Noise levels against their formulas in float64, and the sampler with models whose answer is known."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from connections_support import distance, normal
from torch import Tensor, nn

from harness.connections.settings import HyperSettings
from harness.data.inputs import ImageInputs
from harness.models.diffusion import NoiseSchedule, sample, sampling_timesteps
from harness.models.dit import DiT
from harness.models.settings import DiTSettings

INPUTS = ImageInputs(size=4, channels=1, classes=3)
LABELS = torch.tensor([0, 2, 1])


def shape(**update: Any) -> DiTSettings:
    return DiTSettings(**{"layers": 1, "width": 8, "heads": 2, "patch": 2, "init_std": 0.3, **update})


def start() -> Tensor:
    return normal(3, 1, 4, 4, seed=1, dtype=torch.float32)


def linear_reference(T: int) -> list[float]:
    left, out = 1.0, []
    for t in range(T):
        left *= 1 - (1e-4 + (0.02 - 1e-4) * t / (T - 1)) * 1000 / T
        out.append(left)
    return out


def cosine_reference(T: int) -> list[float]:
    def f(t: int) -> float:
        return math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2

    left, out = 1.0, []
    for t in range(T):
        left *= 1 - min(1 - f(t + 1) / f(t), 0.999)
        out.append(left)
    assert out[T // 2] == pytest.approx(f(T // 2 + 1) / f(0), rel=1e-9)
    return out


@pytest.mark.parametrize("T", [100, 1000, 4000])
@pytest.mark.parametrize(("schedule", "expected"), [("linear", linear_reference), ("cosine", cosine_reference)])
def test_noise_levels_are_the_papers(schedule: str, expected: Any, T: int) -> None:
    levels = NoiseSchedule(shape(schedule=schedule, timesteps=T))
    exact = torch.tensor(expected(T), dtype=torch.float64)
    for ours, plain in [
        (levels.alpha_bar, exact),
        (levels.signal, exact.sqrt()),
        (levels.spread, (1 - exact).sqrt()),
    ]:
        assert ours.shape == (T,)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), plain, rtol=1e-6, atol=0.0)
    assert levels.alpha_bar[-1] < 1e-4, "some signal is left"
    assert levels.alpha_bar[0] > 0.99
    assert (levels.alpha_bar.diff() < 0).all()
    assert not levels.state_dict()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("T", [2, 5, 20])
def test_few_timesteps_still_make_noise_levels(schedule: str, T: int) -> None:
    levels = NoiseSchedule(shape(schedule=schedule, timesteps=T)).alpha_bar
    assert (levels > 0).all()
    assert (levels < 1).all()
    assert (levels.diff() < 0).all()


def test_noisy_images_have_the_mean_and_the_variance_of_their_own_timestep() -> None:
    levels, times = NoiseSchedule(shape()), torch.tensor([0, 300, 999])
    image, noise = normal(3, 1, 4, 4, seed=1), normal(3, 1, 4, 4, seed=2)
    alpha_bar = torch.tensor([linear_reference(1000)[t] for t in times.tolist()], dtype=torch.float64)
    for k in range(3):
        expected = alpha_bar[k].sqrt() * image[k] + (1 - alpha_bar[k]).sqrt() * noise[k]
        assert distance(levels.noisy(image, noise, times)[k], expected) < 1e-6


class Oracle(nn.Module):
    """Knows the image of every class, and of no class, and says which noise is in what it is shown."""

    def __init__(self, images_KCSS: Tensor, **update: Any):
        super().__init__()
        self.settings, self.inputs = shape(**update), INPUTS
        self.levels, self.images = NoiseSchedule(self.settings), images_KCSS
        self.seen: list[tuple[int, int, bool]] = []

    def forward(self, noisy: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        self.seen.append((int(times[0]), len(noisy), self.training))
        alpha_bar = self.levels.alpha_bar.double()[times, None, None, None]
        return ((noisy - alpha_bar.sqrt() * self.images[labels]) / (1 - alpha_bar).sqrt()).float()


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(
    ("steps", "schedule"),
    [
        (1, "linear"),
        (7, "linear"),
        (7, "cosine"),
        (200, "cosine"),
    ],  # in one step cosine's signal, 5e-5, is rounded off
)
def test_who_knows_the_image_gets_it_back(steps: int, schedule: str, guidance: float) -> None:
    images = torch.tanh(normal(4, 1, 4, 4, seed=5))
    if guidance == 3.0:  # where the image of no class is that of all, guidance changes nothing
        images[:] = images[3].clone()
    wanted = images[[3, 3, 3]] if guidance == 0.0 else images[LABELS]
    found = sample(Oracle(images, schedule=schedule), LABELS, start(), steps=steps, guidance=guidance)
    torch.testing.assert_close(found.double(), wanted, rtol=0.0, atol=1e-4)


def test_guidance_goes_beyond_the_class_and_away_from_no_class() -> None:
    """Noise that is linear in the image makes the guided image linear too: null + g (class - null)."""
    images = 0.2 * torch.tanh(normal(4, 1, 4, 4, seed=5))
    found = sample(Oracle(images), LABELS, start(), steps=5, guidance=2.0)
    torch.testing.assert_close(found.double(), 2 * images[LABELS] - images[[3]], rtol=0.0, atol=1e-4)


def test_a_step_is_the_papers() -> None:
    """DDIM, Eq. 12 with sigma 0, for a model that is wrong, and foresees images outside of [-1, 1]."""

    class Wrong(Oracle):
        def forward(self, noisy: Tensor, times: Tensor, labels: Tensor) -> Tensor:
            return torch.tanh(noisy)

    levels, x = linear_reference(100), start().double()
    found = sample(Wrong(torch.zeros(4), timesteps=100), LABELS, start(), steps=4)
    for t, after in [(99, 74), (74, 49), (49, 24), (24, None)]:
        signal, spread = math.sqrt(levels[t]), math.sqrt(1 - levels[t])
        held = ((x - spread * torch.tanh(x)) / signal).clamp(-1, 1)
        left = (x - signal * held) / spread
        x = held if after is None else math.sqrt(levels[after]) * held + math.sqrt(1 - levels[after]) * left
    torch.testing.assert_close(found.double(), x, rtol=0.0, atol=1e-4)
    assert 0.2 < (found.abs() < 1).double().mean() < 0.8, "some are held, some are not"


def test_the_model_sees_falling_timesteps_in_eval_mode_and_both_classes_at_once() -> None:
    oracle = Oracle(torch.zeros(4, 1, 4, 4))
    sample(oracle, LABELS, start(), steps=4, guidance=2.0)
    assert oracle.seen == [(999, 6, False), (749, 6, False), (499, 6, False), (249, 6, False)]
    assert oracle.training, "the mode is put back"
    sample(oracle, LABELS, start(), steps=1)
    assert oracle.seen[4:] == [(999, 3, False)], "without guidance one prediction is enough"


@pytest.mark.parametrize(("timesteps", "steps"), [(1000, 50), (1000, 7), (10, 10), (3, 1)])
def test_timesteps_are_evenly_spaced_from_the_last(timesteps: int, steps: int) -> None:
    times = sampling_timesteps(timesteps, steps)
    assert len(times) == steps
    assert times[0] == timesteps - 1
    gaps = [a - b for a, b in itertools.pairwise(times)]
    assert all(abs(gap - timesteps / steps) < 1 for gap in gaps)
    assert times[-1] >= 0
    assert all(gap > 0 for gap in gaps)


@pytest.mark.parametrize("steps", [0, 11])
def test_steps_that_there_are_not_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be 1 to 10, got {steps}"):
        sampling_timesteps(10, steps)


def test_the_same_noise_gives_the_same_images_and_other_noise_others() -> None:
    model = DiT(shape(dropout=0.5), HyperSettings(rate=2), INPUTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("modulation.weight", "head.weight")):
                parameter.copy_(0.3 * normal(*parameter.shape, seed=1))
    first, again = (sample(model, LABELS, start(), steps=6, guidance=1.5) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (3, 1, 4, 4)
    assert not first.requires_grad
    assert model.training
    assert distance(sample(model, LABELS, -start(), steps=6, guidance=1.5), first) > 0.01
    assert distance(sample(model, LABELS.flip(0), start(), steps=6, guidance=1.5), first) > 1e-3
