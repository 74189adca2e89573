"""Training of models of images on the handwritten digits: what is seen, what is judged, exact resume, what is learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from training_support import MemoryJournal

from harness.connections.settings import AnyConnection
from harness.data.images import ImageSet, load_images
from harness.data.settings import data_settings
from harness.evaluation.images import LEVELS, denoise, level_names, score_classifier, score_denoiser
from harness.evaluation.settings import EvaluationSettings
from harness.models.diffusion import NoiseSchedule
from harness.models.settings import DiTSettings, ModelSettings, ViTSettings
from harness.suite.cells import stream_seeds
from harness.suite.schema import SeedStreams
from harness.training.fit import StoppedError, fit
from harness.training.objective import Classification, Denoising, make_objective
from harness.training.recipe import Recipe, build_model
from harness.training.settings import TrainSettings

MODELS: dict[str, ModelSettings] = {
    "vit": ViTSettings(layers=2, width=32, heads=2, patch=2, init_std=0.05),
    "dit": DiTSettings(layers=2, width=32, heads=2, patch=2, timesteps=100),
}
DATA = data_settings(corpus="digits", valid_share=0.2)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images(DATA, None)


@pytest.fixture
def vision(digits: ImageSet) -> Callable[..., Recipe]:
    def make(kind: str, connection: dict[str, Any] | None = None, seed: int = 1, **train: Any) -> Recipe:
        settings = {
            "steps": 12, "batch_size": 16, "lr": 2e-3, "warmup_steps": 2, "log_every": 1, "checkpoint_every": 5,
            "validate_every": 6, "device": "cpu",
        }  # fmt: skip
        return Recipe(
            connection=TypeAdapter(AnyConnection).validate_python(connection or {"type": "residual"}),
            model=MODELS[kind],
            train=TrainSettings(**{**settings, **train}),
            inputs=digits.inputs,
            data=DATA,
            streams=stream_seeds(seed, SeedStreams()),
        )

    return make


def run(recipe: Recipe, data: ImageSet, folder: Path, stop: Callable[[], bool] = lambda: False) -> Any:
    folder.mkdir(exist_ok=True)
    journal = MemoryJournal()
    return journal, fit(recipe, data, journal, folder, stop)


@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_is_a_function_of_seed_and_step(kind: str, vision: Callable[..., Recipe], digits: ImageSet) -> None:
    """Noise, noise levels and hidden classes with it: what two arms of a seed see is bit-equal."""
    one, same = (
        make_objective(vision(kind, connection), digits) for connection in (None, {"type": "hyper", "rate": 2})
    )
    other = make_objective(vision(kind, seed=2), digits)
    one.batch(0)
    for step in (5, 2):
        equal = [np.array_equal(a, b) for a, b in zip(one.batch(step), same.batch(step), strict=True)]
        assert all(equal)
        assert not any(np.array_equal(a, b) for a, b in zip(one.batch(step), other.batch(step), strict=True))


def test_noise_is_standard_levels_are_even_and_classes_are_hidden_as_often_as_asked(
    vision: Callable[..., Recipe], digits: ImageSet
) -> None:
    objective = make_objective(vision("dit", batch_size=1000), digits)
    images, labels, timesteps, noise = (
        np.concatenate(parts) for parts in zip(*map(objective.batch, range(4)), strict=True)
    )
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((labels == 10).mean() - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5
    assert set(labels) == set(range(11))
    counts = np.bincount(timesteps, minlength=100)
    assert counts.shape == (100,)
    assert ((counts - 40) ** 2 / 40).sum() < 150, "chi-square of 99 degrees of freedom"
    assert images.min() == -1
    assert images.max() == 1


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("micro", [None, 6])
def test_a_stopped_run_resumes_bit_for_bit(
    kind: str, micro: int | None, vision: Callable[..., Recipe], digits: ImageSet, tmp_path: Path
) -> None:
    recipe = vision(kind, {"type": "hyper", "rate": 2}, micro_batch_size=micro)
    plain_journal, plain = run(recipe, digits, tmp_path / "plain")
    asked = iter(range(100))
    with pytest.raises(StoppedError):
        run(recipe, digits, tmp_path / "stopped", lambda: next(asked) == 7)
    journal, again = run(recipe, digits, tmp_path / "stopped")
    assert journal.losses() == plain_journal.losses()[-len(journal.losses()) :]
    assert again.digests == plain.digests
    assert all(torch.equal(w, plain.model.state_dict()[name]) for name, w in again.model.state_dict().items())
    assert {k: v for k, v in again.metrics.items() if k.startswith("validation/")} == {
        k: v for k, v in plain.metrics.items() if k.startswith("validation/")
    }


def test_arms_of_a_seed_share_batches_held_out_data_and_weights(
    vision: Callable[..., Recipe], digits: ImageSet, tmp_path: Path
) -> None:
    for kind in MODELS:
        digests = [
            run(vision(kind, connection, steps=3), digits, tmp_path / f"{kind}{i}")[1].digests
            for i, connection in enumerate(
                ({"type": "residual"}, {"type": "hyper", "rate": 4}, {"type": "frac", "rate": 2})
            )
        ]
        assert digests[0] == digests[1] == digests[2]


def test_a_classifier_learns_the_digits(vision: Callable[..., Recipe], digits: ImageSet, tmp_path: Path) -> None:
    """The curve's accuracy is the whole held-out side's where that fits, and counts right answers."""
    recipe = vision("vit", {"type": "frac", "rate": 2}, steps=200, batch_size=32, lr=3e-3, validate_every=100)
    _, fitted = run(recipe, digits, tmp_path / "x")
    scores = score_classifier(fitted.model, digits)
    assert scores["eval/classification/acc"] > 0.85
    assert scores["eval/classification/acc"] == fitted.metrics["validation/accuracy"]
    assert scores["eval/classification/loss"] == pytest.approx(fitted.metrics["validation/loss"], rel=1e-6)
    with torch.no_grad():
        chosen = np.arange(len(digits.valid))
        logits = fitted.model(torch.from_numpy(digits.valid.pixels(chosen).astype(np.float32) / 127.5 - 1))
    right = (logits.argmax(dim=1).numpy() == digits.valid.labels).mean()
    assert scores["eval/classification/acc"] == right
    assert scores["eval/classification/documents"] == len(digits.valid)


def test_a_denoiser_is_judged_level_by_level_and_draws(
    vision: Callable[..., Recipe], digits: ImageSet, tmp_path: Path
) -> None:
    """An untrained one predicts no noise at all: its error is the noise's own variance."""
    untrained = build_model(vision("dit")).eval()
    settings = EvaluationSettings(tasks=(), images=50, samples_per_class=3, sampling_steps=4)
    scores = score_denoiser(untrained, digits, settings, tmp_path / "samples.png")
    named = [scores[f"eval/denoising/{name}"] for name in level_names()]
    assert level_names()[0] == "noise_05"
    assert len(named) == LEVELS
    assert named == pytest.approx([named[0]] * LEVELS), "the same noise at every level"
    assert named[0] == pytest.approx(1.0, abs=0.1)
    assert scores["eval/denoising/mse"] == pytest.approx(sum(named) / LEVELS)
    from PIL import Image

    picture = Image.open(tmp_path / "samples.png")
    assert (picture.width % (3 * 9), picture.height % (10 * 9)) == (0, 0), "tiles of eight pixels and a line"

    _, fitted = run(vision("dit", steps=60, batch_size=32, lr=3e-3), digits, tmp_path / "x")
    learned = score_denoiser(fitted.model, digits, settings, tmp_path / "more.png")
    assert learned["eval/denoising/mse"] < 0.8
    assert learned["eval/denoising/noise_95"] < learned["eval/denoising/noise_05"], (
        "the most noise is the easiest to see"
    )
    again = score_denoiser(fitted.model, digits, settings, tmp_path / "again.png")
    assert again == learned
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "more.png").read_bytes()


def test_the_objective_follows_the_model(vision: Callable[..., Recipe], digits: ImageSet) -> None:
    assert isinstance(make_objective(vision("vit"), digits), Classification)
    assert isinstance(make_objective(vision("dit"), digits), Denoising)


def test_the_curve_is_judged_on_images_spread_over_the_held_out_side(
    vision: Callable[..., Recipe], digits: ImageSet
) -> None:
    for kind in MODELS:
        few = make_objective(vision(kind, validation_images=50), digits).held_out
        spread = [i * len(digits.valid) // 50 for i in range(50)]
        assert np.array_equal(few[1], digits.valid.labels[spread])
        assert len(make_objective(vision(kind), digits).held_out[0]) == len(digits.valid), (
            "all, where there are no more"
        )


def test_noise_levels_are_the_middles_of_tenths_of_the_timesteps(digits: ImageSet) -> None:
    seen = []

    class Watcher:
        settings = MODELS["dit"]

        def __call__(self, noisy: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.extend(timesteps.tolist())
            return torch.zeros_like(noisy)

    assert isinstance(MODELS["dit"], DiTSettings)
    images = torch.zeros(LEVELS, 1, 8, 8)
    labels = torch.zeros(LEVELS, dtype=torch.int64)
    denoise(Watcher(), NoiseSchedule(MODELS["dit"]), images, labels, torch.arange(LEVELS), torch.ones_like(images))  # type: ignore[arg-type]
    assert seen == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95], "of a hundred"
