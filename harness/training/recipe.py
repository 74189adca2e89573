"""What decides the numbers of a run, and the model that it starts from."""

from __future__ import annotations

from dataclasses import dataclass

from harness.connections.settings import ConnectionSettings
from harness.data.tokenizers import TOKENIZERS
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings
from harness.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the numbers of a run."""

    connection: ConnectionSettings
    model: DecoderSettings
    train: TrainSettings
    tokenizer: str
    streams: dict[str, int]


def build_model(recipe: Recipe) -> Decoder:
    """The model at initialisation, from the recipe's own random streams."""
    return Decoder(
        recipe.model,
        recipe.connection,
        TOKENIZERS[recipe.tokenizer].vocabulary,
        backbone_seed=recipe.streams["backbone"],
        connection_seed=recipe.streams["connection"],
    )
