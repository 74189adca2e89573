"""What a model costs, as formulas, without torch: parameters and floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass

from harness.connections.settings import ConnectionSettings
from harness.models.settings import DecoderSettings


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Learned numbers by part; the tied unembedding is counted once, in `embedding`."""

    embedding: int
    backbone: int
    connection: int

    @property
    def total(self) -> int:
        return self.embedding + self.backbone + self.connection


def parameters(model: DecoderSettings, connection: ConnectionSettings, vocabulary: int) -> Parameters:
    width, hidden = model.width, model.hidden
    block = 4 * width * width + 3 * width * hidden + 2 * width  # q, k, v, o; gate, up, down; two norms
    return Parameters(
        embedding=vocabulary * width,
        backbone=model.layers * block + width,  # and the final norm
        connection=connection.parameter_count(width, model.sublayers),
    )


def forward_flops_per_token(model: DecoderSettings, connection: ConnectionSettings, vocabulary: int) -> int:
    """Matrix products (2 per multiply-add), the unembedding, attention over the whole context without the causal
    discount (the PaLM convention, arXiv 2204.02311, App. B), and the connection's own formula."""
    width, hidden = model.width, model.hidden
    block = 2 * (4 * width * width + 3 * width * hidden) + 4 * model.context * width
    return model.layers * block + 2 * vocabulary * width + connection.flops_per_token(width, model.sublayers)


def training_flops_per_token(model: DecoderSettings, connection: ConnectionSettings, vocabulary: int) -> int:
    """Three times the forward pass: the backward pass forms two products for every one."""
    return 3 * forward_flops_per_token(model, connection, vocabulary)
