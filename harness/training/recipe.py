"""What decides the numbers of a run, and the model that it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from harness import connections
from harness.connections.base import Connections
from harness.connections.kernels.choose import Choice, choose
from harness.connections.settings import ConnectionSettings
from harness.data.inputs import Inputs
from harness.data.settings import DataSettings, StdlibSettings
from harness.models.build import build
from harness.models.network import Network
from harness.models.settings import ModelSettings
from harness.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the numbers of a run, but the data themselves."""

    connection: ConnectionSettings
    model: ModelSettings
    train: TrainSettings
    inputs: Inputs
    data: DataSettings = field(default_factory=StdlibSettings)
    streams: dict[str, int]


def device_of(settings: TrainSettings) -> torch.device:
    """Where a run under these settings takes place on this machine; Lightning's choice with one device."""
    use_cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")


def build_model(recipe: Recipe) -> Network:
    """The model at initialisation, from the recipe's own random streams, its connections on the path that the recipe
    asks for. Raises UsageError for kernels that cannot be had."""
    model = build(
        recipe.model,
        recipe.connection,
        recipe.inputs,
        backbone_seed=recipe.streams["backbone"],
        connection_seed=recipe.streams["connection"],
    )
    _choose(model.connections, recipe.train)
    return model


def path_of(recipe: Recipe) -> Choice:
    """The path that the connections of `build_model` are on. Raises UsageError as it does."""
    return path_for(recipe.connection, recipe.model, recipe.train)


def path_for(connection: ConnectionSettings, model: ModelSettings, train: TrainSettings) -> Choice:
    """The same of settings."""
    with torch.device("meta"):
        stack = connections.build(connection, model.width, model.sublayers)
    return _choose(stack, train)


def _choose(stack: Connections, settings: TrainSettings) -> Choice:
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    return choose(stack, settings.kernels, device_of(settings), dtype)
