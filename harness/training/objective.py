"""What a model is trained for: where its batches come from, what it loses on one, how it is judged on held-out data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.batches import Batch, BatchSource, validation_windows
from harness.data.diagnostics import IGNORED
from harness.data.documents import Corpus
from harness.data.images import ImageSet, ImageSource, scaled
from harness.data.load import Data
from harness.data.settings import ImageSettings
from harness.data.shards import shard
from harness.data.synthetic import Symbols
from harness.evaluation.images import LEVELS, classify, denoise, fixed_noise, level_names, level_timesteps
from harness.evaluation.symbols import answer
from harness.models.decoder import token_losses
from harness.models.diffusion import NoiseSchedule
from harness.models.network import Network
from harness.models.settings import DecoderSettings, DiTSettings, ViTSettings
from harness.training.recipe import Recipe

PIECE = 32
"""Examples at a time in validation, at most; no more than training itself takes."""

EXAMPLE_TOKENS = 512
"""Held-out tokens that connections are diagnosed on, at most, but for one image."""

Forward = Callable[[], AbstractContextManager[None]]
"""The context (precision) in which the model is to run."""


class Objective(ABC):
    """`batch(step)` is a function of the recipe's data seed and the step. `losses` has one number for every item that
    counts (token, image); the loss is the mean over all items of a step, however they are split. `held_out` never
    changes, and `judge` divides sums over all of it once."""

    held_out: Batch
    items = "windows"
    """What a loss of `judged` is one of."""
    unit = "nats"
    judged: list[float]
    """Sum of the losses of every held-out item in the last `judge`."""

    def __init__(self, recipe: Recipe):
        self.piece = min(PIECE, recipe.train.micro_batch_size or recipe.train.batch_size)
        self.positions = recipe.model.positions(recipe.inputs)

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """The examples of `step` = 0, 1, ..."""

    @abstractmethod
    def losses(self, model: Network, *batch: Tensor) -> Tensor:
        """The loss of every item."""

    @abstractmethod
    def judge(self, model: Network, device: torch.device, forward: Forward) -> dict[str, float]:
        """`validation/...`, the loss among them, of a model in evaluation mode; leaves `judged`."""

    @abstractmethod
    def sizes(self) -> list[int]:
        """What every held-out item's sum is divided by for its mean loss: tokens, answers, or 1."""

    @abstractmethod
    def examples(self, device: torch.device) -> tuple[Tensor, ...]:
        """What the model is called with for a few held-out items, always the same, at most `EXAMPLE_TOKENS` tokens and
        no more items than training takes at a time."""

    def _chosen(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Items spread evenly over the held-out ones."""
        available = len(self.held_out[0])
        count = max(min(EXAMPLE_TOKENS // self.positions, self.piece, available), 1)
        return np.arange(count) * available // count

    def _pieces(self, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        for start in range(0, len(self.held_out[0]), self.piece):
            yield tuple(torch.from_numpy(array[start : start + self.piece]).to(device) for array in self.held_out)


class LanguageModelling(Objective):
    """Nats per token."""

    def __init__(self, recipe: Recipe, corpus: Corpus):
        super().__init__(recipe)
        assert isinstance(recipe.model, DecoderSettings)
        context = recipe.model.context
        self.source = BatchSource(
            shard(corpus, "train").tokens,
            batch_size=recipe.train.batch_size,
            context=context,
            seed=recipe.streams["data"],
        )
        count, valid = max(recipe.train.validation_tokens // context, 1), shard(corpus, "valid")
        self.held_out = (validation_windows(valid.tokens, count=count, context=context),)
        # Of the text that the targets stand for, whatever the tokenizer does to it.
        self.bytes = int(validation_windows(valid.bytes, count=count, context=context)[:, 1:].sum())

    def batch(self, step: int) -> Batch:
        return (self.source.batch(step),)

    def losses(self, model: Network, *batch: Tensor) -> Tensor:
        (tokens,) = batch
        return token_losses(model(tokens[:, :-1]), tokens[:, 1:])

    def judge(self, model: Network, device: torch.device, forward: Forward) -> dict[str, float]:
        nats, self.judged = torch.zeros((), dtype=torch.float64), []
        for (tokens,) in self._pieces(device):
            with forward():
                losses = self.losses(model, tokens)
            nats += losses.sum(dtype=torch.float64).cpu()
            self.judged += losses.sum(dim=1, dtype=torch.float64).tolist()
        loss = nats.item() / self.held_out[0][:, 1:].size
        return {
            "validation/loss": loss,
            "validation/bits_per_byte": nats.item() / (self.bytes * math.log(2.0)),
            "validation/perplexity": math.exp(min(loss, 700.0)),
        }

    def sizes(self) -> list[int]:
        return [self.held_out[0].shape[1] - 1] * len(self.held_out[0])

    def examples(self, device: torch.device) -> tuple[Tensor, ...]:
        return (torch.from_numpy(self.held_out[0][self._chosen(), :-1][:, :EXAMPLE_TOKENS]).to(device),)


class Answering(Objective):
    """Nats per answer: sequences of symbols, of which some positions are asked."""

    items = "sequences"

    def __init__(self, recipe: Recipe, symbols: Symbols):
        super().__init__(recipe)
        assert isinstance(recipe.model, DecoderSettings)
        self.symbols, self.seed, self.size = symbols, recipe.streams["data"], recipe.train.batch_size
        self.context = recipe.model.context
        held = symbols.held_out(max(recipe.train.validation_tokens // self.context, 1), self.context)
        self.held_out, self.answers = (held.inputs, held.targets), held.answers

    def batch(self, step: int) -> Batch:
        """Inputs, targets, and (B,) what a sequence's nats are weighed with: sequences may have different numbers of
        answers, and so weighed the mean over the sequences of a step is the mean over its answers."""
        made = self.symbols.batch(step, seed=self.seed, batch_size=self.size, context=self.context)
        return made.inputs, made.targets, np.full(self.size, self.size / made.answers, np.float32)

    def losses(self, model: Network, *batch: Tensor) -> Tensor:
        inputs, targets, weights = batch
        return token_losses(model(inputs), targets).sum(dim=1) * weights

    def judge(self, model: Network, device: torch.device, forward: Forward) -> dict[str, float]:
        nats, right, self.judged = 0.0, 0, []
        for inputs, targets in self._pieces(device):
            with forward():
                losses, hits = answer(model, inputs, targets)
            nats, right = nats + losses.sum(dtype=torch.float64).item(), right + int(hits.sum())
            self.judged += losses.sum(dim=1, dtype=torch.float64).tolist()
        return {"validation/loss": nats / self.answers, "validation/accuracy": right / self.answers}

    def sizes(self) -> list[int]:
        found: list[int] = (self.held_out[1] != IGNORED).sum(axis=1).tolist()
        return found

    def examples(self, device: torch.device) -> tuple[Tensor, ...]:
        return (torch.from_numpy(self.held_out[0][self._chosen(), :EXAMPLE_TOKENS]).to(device),)


class ImageObjective(Objective):
    """What classification and denoising share: the images."""

    items = "images"

    def __init__(self, recipe: Recipe, images: ImageSet):
        super().__init__(recipe)
        assert isinstance(recipe.data, ImageSettings)
        self.seed, self.classes = recipe.streams["data"], images.inputs.classes
        self.source = ImageSource(
            images.train, batch_size=recipe.train.batch_size, seed=self.seed, augment=recipe.data.augment
        )
        available = len(images.valid)
        count = min(recipe.train.validation_images, available)
        chosen = np.arange(count) * available // count
        self.held_out = (scaled(images.valid.pixels(chosen)), images.valid.labels[chosen])

    def sizes(self) -> list[int]:
        return [1] * len(self.held_out[0])


class Classification(ImageObjective):
    """Nats per image."""

    def batch(self, step: int) -> Batch:
        return self.source.batch(step)

    def losses(self, model: Network, *batch: Tensor) -> Tensor:
        images, labels = batch
        return F.cross_entropy(model(images).float(), labels, reduction="none")

    def judge(self, model: Network, device: torch.device, forward: Forward) -> dict[str, float]:
        nats, right, self.judged = 0.0, 0, []
        for images, labels in self._pieces(device):
            with forward():
                one_nats, one_right, each = classify(model, images, labels)
            nats, right = nats + one_nats, right + one_right
            self.judged += each.double().tolist()
        count = len(self.held_out[0])
        return {"validation/loss": nats / count, "validation/accuracy": right / count}

    def examples(self, device: torch.device) -> tuple[Tensor, ...]:
        return (torch.from_numpy(self.held_out[0][self._chosen()]).to(device),)


class Denoising(ImageObjective):
    """Squared error of the predicted noise per pixel and channel, at a noise level drawn evenly for every image."""

    unit = "squared error"

    def __init__(self, recipe: Recipe, images: ImageSet):
        super().__init__(recipe, images)
        assert isinstance(recipe.model, DiTSettings)
        self.schedule = NoiseSchedule(recipe.model)
        self.timesteps, self.class_dropout = recipe.model.timesteps, recipe.model.class_dropout
        pixels, labels = self.held_out
        # Image i at level i mod LEVELS, with noise that never changes.
        levels = np.arange(len(pixels)) % LEVELS
        self.held_out = (pixels, labels, levels, fixed_noise(pixels.shape))

    def batch(self, step: int) -> Batch:
        images, labels = self.source.batch(step)
        draw = np.random.default_rng([self.seed, step, 2])  # not the streams of order and augmentation
        timesteps = draw.integers(self.timesteps, size=len(labels))
        noise = draw.standard_normal(images.shape, dtype=np.float32)
        hidden = draw.random(len(labels)) < self.class_dropout
        return images, np.where(hidden, self.classes, labels), timesteps, noise

    def losses(self, model: Network, *batch: Tensor) -> Tensor:
        images, labels, timesteps, noise = batch
        predicted = model(self.schedule.to(images.device).noisy(images, noise, timesteps), timesteps, labels)
        return (predicted.float() - noise).square().flatten(1).mean(dim=1)

    def judge(self, model: Network, device: torch.device, forward: Forward) -> dict[str, float]:
        errors = []
        for images, labels, levels, noise in self._pieces(device):
            with forward():
                errors.append(denoise(model, self.schedule, images, labels, levels, noise).cpu())
        error, levels = torch.cat(errors), torch.from_numpy(self.held_out[2])
        self.judged = error.tolist()
        by_level = [error[levels == level] for level in range(min(LEVELS, len(error)))]
        named = {f"validation/{name}": at.mean().item() for name, at in zip(level_names(), by_level, strict=False)}
        return {"validation/loss": error.mean().item(), **named}

    def examples(self, device: torch.device) -> tuple[Tensor, ...]:
        chosen = self._chosen()
        images, labels, noise = (torch.from_numpy(self.held_out[i][chosen]).to(device) for i in (0, 1, 3))
        # Levels in turn: a level belongs to an image's place, and evenly spread ones might all have the same.
        timesteps = level_timesteps(torch.arange(len(chosen), device=device) % LEVELS, self.timesteps)
        return self.schedule.to(device).noisy(images, noise, timesteps), timesteps, labels


def make_objective(recipe: Recipe, data: Data) -> Objective:
    """The objective of the recipe's model on these data."""
    if isinstance(data, Corpus):
        return LanguageModelling(recipe, data)
    if isinstance(data, Symbols):
        return Answering(recipe, data)
    return Classification(recipe, data) if isinstance(recipe.model, ViTSettings) else Denoising(recipe, data)
