"""Memory of a training step and traffic of the streams, as formulas."""

from __future__ import annotations

from dataclasses import dataclass

from harness.connections.settings import ConnectionSettings, ResidualSettings
from harness.data.inputs import Inputs
from harness.models.cost.kept import Precision, saved_bytes
from harness.models.cost.weights import parameters
from harness.models.settings import ModelSettings


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the end of a forward pass, when everything is there at once."""

    weights: int
    gradients: int
    optimiser: int
    """AdamW's two moments."""
    activations: int
    """What a residual network of this shape keeps for its backward pass."""
    streams: int
    """What the connection keeps beyond that; below zero for one that keeps less."""

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations + self.streams


def memory(
    model: ModelSettings, connection: ConnectionSettings, inputs: Inputs, *, batch: int, precision: Precision
) -> Memory:
    """Of a step with `batch` examples per micro-batch."""
    count = parameters(model, connection, inputs).total
    activations = batch * saved_bytes(model, ResidualSettings(), inputs, precision=precision)
    kept = batch * saved_bytes(model, connection, inputs, precision=precision)
    return Memory(
        weights=4 * count,
        gradients=4 * count,
        optimiser=8 * count,
        activations=activations,
        streams=kept - activations,
    )


def traffic(model: ModelSettings, connection: ConnectionSettings) -> tuple[float, float]:
    """Elements (read, written) per token and sub-layer, forward, to keep the stream, every operation unfused."""
    read, written = connection.stream_traffic(model.width, model.sublayers)
    return read / model.sublayers, written / model.sublayers
