"""Memory of a training step and traffic of the streams, as formulas."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from harness.connections.settings import ConnectionSettings, ResidualSettings
from harness.data.inputs import Inputs
from harness.models.cost.kept import Place, Precision, saved_bytes
from harness.models.cost.weights import parameters
from harness.models.settings import DecoderSettings, ModelSettings


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the peak of a step, as a backward pass begins. Weights, gradients and moments are in fp32."""

    weights: int
    gradients: int
    """There at the peak where a step has several micro-batches; of a single one they come as activations go."""
    optimiser: int
    """AdamW's two moments."""
    activations: int
    """What a residual network of this shape keeps for its backward pass."""
    streams: int
    """What the connection keeps beyond that; below zero for one that keeps less."""
    workspace: int
    """The logits' gradient behind and before their log-softmax."""
    copies: int
    """Under bf16 autocast, the weights in bf16."""

    @property
    def total(self) -> int:
        return sum(astuple(self))


def memory(
    model: ModelSettings,
    connection: ConnectionSettings,
    inputs: Inputs,
    *,
    batch: int,
    precision: Precision,
    place: Place = "cpu",
) -> Memory:
    """Of a step with `batch` examples per micro-batch. Raises TypeError for a model without formulas."""
    count = parameters(model, connection, inputs)
    activations = batch * saved_bytes(model, ResidualSettings(), inputs, precision=precision, place=place)
    kept = batch * saved_bytes(model, connection, inputs, precision=precision, place=place)
    workspace, looked_up = 0, 0
    if isinstance(model, DecoderSettings):
        rows = model.embedding_rows(inputs)
        workspace = 2 * 4 * batch * model.context * rows
        looked_up = 0 if model.tied else rows * model.width
    # An embedding that is only read is not cast.
    copies = 2 * (count.embedding + count.backbone - looked_up) if precision == "bf16" else 0
    return Memory(
        weights=4 * count.total,
        gradients=4 * count.total,
        optimiser=2 * 4 * count.total,
        activations=activations,
        streams=kept - activations,
        workspace=workspace,
        copies=copies,
    )


def traffic(model: ModelSettings, connection: ConnectionSettings) -> tuple[float, float]:
    """Elements (read, written) per token and sub-layer, forward, to keep the stream, every operation unfused."""
    read, written = connection.stream_traffic(model.width, model.sublayers)
    return read / model.sublayers, written / model.sublayers
