"""Learned numbers of every model, as formulas."""

from __future__ import annotations

from dataclasses import dataclass

from harness.connections.settings import ConnectionSettings, norm_parameters
from harness.data.inputs import ImageInputs, Inputs
from harness.models.settings import FREQUENCIES, DecoderSettings, DiTSettings, ModelSettings, PatchSettings, ViTSettings


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Learned numbers by part; a tied unembedding is counted once."""

    embedding: int
    """Between data and width: token or patch embeddings, positions, the condition's embeddings, unembedding, heads."""
    backbone: int
    """The branches with their norms, and the final norm."""
    connection: int
    idle: int = 0
    """Of the backbone, the experts that a token does not visit."""

    @property
    def total(self) -> int:
        return self.embedding + self.backbone + self.connection

    @property
    def active(self) -> int:
        """What one token meets."""
        return self.total - self.idle


def parameters(model: ModelSettings, connection: ConnectionSettings, inputs: Inputs) -> Parameters:
    """Exactly what is built. Raises TypeError for a model without formulas."""
    own = connection.parameter_count(model.width, model.sublayers)
    if isinstance(model, DecoderSettings):
        rows = model.embedding_rows(inputs) * (1 if model.tied else 2)
        block, idle = _decoder_block(model)
        return Parameters(
            embedding=rows * model.width,
            backbone=model.layers * block + norm_parameters(model.norm_type, model.width),
            connection=own,
            idle=model.layers * idle,
        )
    assert isinstance(inputs, ImageInputs)
    if isinstance(model, ViTSettings):
        width = model.width
        return Parameters(
            embedding=(patch_size(model, inputs) + 1) * width  # and a bias
            + model.positions(inputs) * width
            + (width if model.pool == "class_token" else 0)
            + (width + 1) * inputs.classes,
            backbone=model.layers * (_biased_block(model) + 2 * 2 * width) + 2 * width,
            connection=own,
        )
    if isinstance(model, DiTSettings):
        width, pixels = model.width, patch_size(model, inputs)
        condition = (FREQUENCIES + 1) * width + (width + 1) * width + (inputs.classes + 1) * width
        output = (width + 1) * 2 * width + (width + 1) * pixels  # the modulation of the final norm; the head
        return Parameters(
            embedding=(pixels + 1) * width + condition + output,
            backbone=model.layers * (_biased_block(model) + 2 * (width + 1) * 3 * width),
            connection=own,
        )
    raise TypeError(f"no formulas for a {model.type}")


def patch_size(model: PatchSettings, inputs: ImageInputs) -> int:
    """Numbers in one patch."""
    return model.patch**2 * inputs.channels


def key_width(model: DecoderSettings) -> int:
    """Width of all keys of a token; the values' too."""
    return model.key_heads * model.head_width


def _decoder_block(model: DecoderSettings) -> tuple[int, int]:
    """Parameters of a block, and how many of them a token does not meet."""
    width, keys = model.width, key_width(model)
    attention = width * (width + 2 * keys) + width * width  # q, k, v; output
    attention += width + keys if model.qk_norm else 0
    norms = 2 * norm_parameters(model.norm_type, width)
    expert = 3 * width * model.hidden  # gate, up, down
    if model.experts is None:
        return attention + norms + expert, 0
    idle = (model.experts - model.experts_per_token) * expert
    return attention + norms + model.experts * (expert + width), idle


def _biased_block(model: PatchSettings) -> int:
    """Attention and feed-forward of an image model, without what norms them."""
    width, hidden = model.width, model.hidden
    attention = (width + 1) * 3 * width + (width + 1) * width + (2 * width if model.qk_norm else 0)
    return attention + (width + 1) * hidden + (hidden + 1) * width
