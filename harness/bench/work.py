"""What is timed: a training step of an entry on random tokens, by the stepper that prices the arms of a suite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from harness.bench.arms import BASELINE, Entry, Kernels, rate_of
from harness.bench.presets import Preset
from harness.connections.base import Branch, Connections
from harness.connections.coefficients import DECAYED
from harness.connections.settings import ResidualSettings
from harness.data.batches import Batch
from harness.errors import HarnessError, UsageError, first_line
from harness.models.decoder import token_losses
from harness.models.network import Network
from harness.suite.cells import stream_seeds
from harness.suite.schema import SeedStreams
from harness.training.recipe import Recipe, build_model, path_of
from harness.training.settings import TrainSettings
from harness.training.step import Stepper

SEED = 1


@dataclass(frozen=True, kw_only=True)
class Where:
    """What a step runs on."""

    device: str
    """cpu or cuda."""
    threads: int


class RandomTokens:
    """Next-token prediction on tokens that are drawn evenly: what they are costs nothing, and no corpus is needed."""

    def __init__(self, preset: Preset):
        self.shape, self.vocabulary = (preset.batch, preset.model.context + 1), preset.inputs.vocabulary

    def batch(self, step: int) -> Batch:
        """(B, T + 1) token ids, a function of the step."""
        return (np.random.default_rng([SEED, step]).integers(self.vocabulary, size=self.shape),)

    def losses(self, model: Network, *batch: Tensor) -> Tensor:
        (tokens_BT,) = batch
        return token_losses(model(tokens_BT[:, :-1]), tokens_BT[:, 1:])


class PeerConnections(Connections):
    """A stack of another package's modules, driven by its adapter in `harness.conform.peers`."""

    decayed = DECAYED  # as its author advises: the static values must not decay

    def __init__(self, adapter: str, rate: int, dim: int, sublayers: int):
        super().__init__()
        from harness.conform.peers import PEERS

        network = PEERS[adapter].network(dim, rate, sublayers, torch.float32)
        self.sublayers = network.module
        self._call = cast(Callable[[Tensor, Sequence[Any]], Tensor], network)

    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        return self._call(x_BTD, branches)


def recipe_of(entry: Entry, preset: Preset, where: Where) -> Recipe:
    """What the entry trains; of a peer the residual network, whose connections are then replaced."""
    train: dict[str, Any] = {
        # The schedule of a long run: a step of a bench is one of its first.
        "steps": 100_000, "warmup_steps": 100, "lr": 3e-4,
        "batch_size": preset.batch, "precision": preset.precision, "threads": where.threads, "device": where.device,
        "kernels": entry.kernels, "compile": entry.compiled,
    }  # fmt: skip
    return Recipe(
        connection=ResidualSettings() if entry.peer is not None else entry.connection,
        model=preset.model,
        train=TrainSettings(**train),
        inputs=preset.inputs,
        streams=stream_seeds(SEED, SeedStreams()),
    )


def make_stepper(entry: Entry, preset: Preset, where: Where) -> Stepper:
    """The model as it is trained, with its optimiser, before its first step. Raises HarnessError where it was to be
    compiled and could not be: training goes on in eager PyTorch then, which is not what is asked here."""
    recipe = recipe_of(entry, preset, where)
    model = build_model(recipe)
    if entry.peer is not None:
        torch.manual_seed(recipe.streams["connection"])
        model.connections = PeerConnections(entry.peer, rate_of(entry), preset.model.width, preset.model.sublayers)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stepper = Stepper(recipe, RandomTokens(preset), model, torch.device(where.device))
    if entry.compiled and stepper.losses.seconds is None:
        told = [first_line(one.message) for one in said if "compile" in str(one.message)]
        raise HarnessError("; ".join(told) or "could not be compiled")
    return stepper


def kernels_of(entry: Entry, preset: Preset, where: Where) -> str | None:
    """The path that the entry's connections are on: plain, native or triton; None where there is nothing to choose.
    Raises UsageError for kernels that are asked for and cannot be had."""
    if entry.arm == BASELINE or entry.peer is not None:
        return None
    try:
        return path_of(recipe_of(entry, preset, where)).path
    except UsageError as error:
        raise UsageError(f"--kernels: {entry.arm}: {str(error).removeprefix('train.kernels: ')}") from None


def with_kernels(
    entries: Sequence[Entry], kernels: Kernels | Literal["both"], preset: Preset, where: Where
) -> list[Entry]:
    """The entries as they are to run. For `both` each is there twice, but those that have no kernels of ours.

    Raises UsageError for kernels that are asked for and cannot be had.
    """
    made: list[Entry] = []
    for entry in entries:
        if entry.arm == BASELINE:
            made.append(entry)
        elif kernels != "both":
            made.append(replace(entry, kernels=kernels))
            kernels_of(made[-1], preset, where)
        else:
            made.append(replace(entry, kernels="plain"))
            if kernels_of(entry, preset, where) != "plain":
                made.append(replace(entry, kernels="fused"))
    return made
