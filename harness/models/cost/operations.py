"""Floating-point operations, as formulas, and what share of a chip's peak they are.

A multiply-add counts as two. Counted are matrix products, attention over the whole context without the causal discount
(the PaLM convention, arXiv 2204.02311, App. B), the unembedding, the router, the experts that a token visits, and the
connection's own formula. Norms, softmax, activations, biases and modulation are not.
"""

from __future__ import annotations

from harness.connections.settings import ConnectionSettings
from harness.data.inputs import ImageInputs, Inputs
from harness.models.cost.devices import find_device
from harness.models.cost.kept import Precision
from harness.models.cost.weights import key_width, patch_size
from harness.models.settings import FREQUENCIES, DecoderSettings, DiTSettings, ModelSettings, PatchSettings, ViTSettings


def forward_flops(model: ModelSettings, connection: ConnectionSettings, inputs: Inputs) -> int:
    """Of one example: a sequence of the context's length, or an image. Raises TypeError for a model without
    formulas."""
    width, positions = model.width, model.positions(inputs)
    scores = 4 * positions * width  # queries by keys, weights by values; the same for grouped keys
    if isinstance(model, DecoderSettings):
        products, once = token_products(model, inputs), 0
    elif isinstance(model, PatchSettings) and isinstance(inputs, ImageInputs):
        products = model.layers * (4 * width * width + 2 * width * model.hidden)
        once = model.patches(inputs) * patch_size(model, inputs) * width  # a class token is no patch
        if isinstance(model, ViTSettings):
            once += width * inputs.classes
        elif isinstance(model, DiTSettings):
            products += width * patch_size(model, inputs)
            once += FREQUENCIES * width + width * width  # the timestep's MLP
            once += model.sublayers * width * 3 * width + width * 2 * width  # modulation of branches and final norm
        else:
            raise TypeError(f"no formulas for a {model.type}")
    else:
        raise TypeError(f"no formulas for a {model.type}")
    per_token = 2 * products + model.layers * scores + connection.flops_per_token(width, model.sublayers)
    return positions * per_token + 2 * once


def forward_flops_per_token(model: ModelSettings, connection: ConnectionSettings, inputs: Inputs) -> float:
    """The mean over an example's tokens."""
    return forward_flops(model, connection, inputs) / model.positions(inputs)


def training_flops(model: ModelSettings, connection: ConnectionSettings, inputs: Inputs) -> int:
    """Of one example: three times the forward pass, as the backward pass forms two products for every one."""
    return 3 * forward_flops(model, connection, inputs)


def mfu(
    model: ModelSettings,
    connection: ConnectionSettings,
    inputs: Inputs,
    *,
    examples_per_second: float,
    device_name: str,
    precision: Precision,
) -> float | None:
    """Model FLOPs utilisation in training: the formula's operations per second over the chip's dense peak. None for a
    chip that is not in the table, or has no such arithmetic. The connection's operations count as the model's."""
    device = find_device(device_name)
    peak = device.peak(precision) if device is not None else None
    return None if peak is None else examples_per_second * training_flops(model, connection, inputs) / peak


def token_products(model: DecoderSettings, inputs: Inputs) -> int:
    """Multiply-adds of one token with matrices, the unembedding among them: as many as matrix parameters that it
    meets."""
    width = model.width
    attention = 2 * width * width + 2 * width * key_width(model)
    feed_forward = 3 * width * model.hidden
    if model.experts is not None:
        feed_forward = model.experts_per_token * feed_forward + width * model.experts
    return model.layers * (attention + feed_forward) + model.embedding_rows(inputs) * width
