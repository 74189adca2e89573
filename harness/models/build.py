"""The model that settings ask for."""

from __future__ import annotations

from harness.connections.settings import ConnectionSettings
from harness.data.inputs import ImageInputs, Inputs, TextInputs
from harness.models.network import Network
from harness.models.settings import DecoderSettings, DiTSettings, ModelSettings, ViTSettings


def build(
    settings: ModelSettings,
    connection: ConnectionSettings,
    inputs: Inputs,
    *,
    backbone_seed: int = 0,
    connection_seed: int = 0,
) -> Network:
    """The model at initialisation, its weights drawn from the two seeds. Raises TypeError for data of another kind."""
    seeds = {"backbone_seed": backbone_seed, "connection_seed": connection_seed}
    if isinstance(settings, DecoderSettings) and isinstance(inputs, TextInputs):
        from harness.models.decoder import Decoder

        rows = settings.embedding_rows(inputs)
        return Decoder(settings, connection, rows, boundary=inputs.boundary, **seeds)
    if isinstance(settings, ViTSettings) and isinstance(inputs, ImageInputs):
        from harness.models.vit import ViT

        return ViT(settings, connection, inputs, **seeds)
    if isinstance(settings, DiTSettings) and isinstance(inputs, ImageInputs):
        from harness.models.dit import DiT

        return DiT(settings, connection, inputs, **seeds)
    raise TypeError(f"a {settings.type} cannot learn from {inputs}")
