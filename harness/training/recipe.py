"""What decides the numbers of a run, and the model that it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

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
    """The model at initialisation, from the recipe's own random streams."""
    return build(
        recipe.model,
        recipe.connection,
        recipe.inputs,
        backbone_seed=recipe.streams["backbone"],
        connection_seed=recipe.streams["connection"],
    )
