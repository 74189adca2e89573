"""Bytes that a training step keeps for its backward pass, as formulas: what saved-tensor hooks count.

Every storage counts once, however often it is saved, and no parameter, buffer or input. The reference is fp32 on a CPU,
where torch takes RMSNorm apart. The inputs of every branch's norm and transform are part of the connection's own
formula, so what stands here for a branch comes on top of those two.

Under bf16 autocast most of it is kept in bf16. RMSNorm reads a copy in fp32 and keeps its intermediates so; statistics,
the logits' log-softmax, and whatever a connection keeps beyond a residual network are fp32 too.

On a GPU, RMSNorm is one operation that keeps no normalised input, LayerNorm reads and writes fp32 under autocast too
(torch's ATen/autocast_mode.h), and dropout's masks are bytes. All else is taken to be as on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.connections.settings import ConnectionSettings, ResidualSettings, ReZeroSettings
from harness.data.inputs import ImageInputs, Inputs
from harness.models.cost.weights import key_width, patch_size
from harness.models.settings import FREQUENCIES, DecoderSettings, DiTSettings, ModelSettings, PatchSettings, ViTSettings

Precision = Literal["fp32", "bf16"]
Place = Literal["cpu", "cuda"]

INT64 = 2
"""Numbers of four bytes in an integer."""


@dataclass(frozen=True)
class Kept:
    """How much is kept of each kind of number."""

    half: int = 0
    """In the precision of products."""
    full: int = 0
    """In fp32, always."""
    copies: int = 0
    """In fp32, of what autocast made bf16; none where all is fp32."""
    octets: int = 0
    """Bytes."""

    def __add__(self, other: Kept) -> Kept:
        return Kept(
            self.half + other.half, self.full + other.full, self.copies + other.copies, self.octets + other.octets
        )

    def __rmul__(self, count: int) -> Kept:
        return Kept(count * self.half, count * self.full, count * self.copies, count * self.octets)

    def size(self, precision: Precision) -> int:
        """Bytes."""
        if precision == "fp32":
            return 4 * (self.half + self.full) + self.octets
        return 2 * self.half + 4 * (self.full + self.copies) + self.octets


@dataclass(frozen=True)
class _Norms:
    """What a model's norms of one token keep."""

    rms: bool
    fused: bool
    """On a GPU."""

    @property
    def cast(self) -> bool:
        """Whether they read a copy in fp32 under autocast."""
        return self.rms or self.fused

    def read(self, width: int) -> Kept:
        """The input."""
        return Kept(full=width) if self.cast else Kept(half=width)

    def inside(self, width: int) -> Kept:
        """Mean and factor; of RMSNorm the factor and, for the gradient of the weight, the normalised input."""
        return self.rms_inside(width) if self.rms else Kept(full=2)

    def rms_inside(self, width: int) -> Kept:
        return Kept(full=1 if self.fused else width + 1)


def saved_bytes(
    model: ModelSettings,
    connection: ConnectionSettings,
    inputs: Inputs,
    *,
    precision: Precision = "fp32",
    place: Place = "cpu",
) -> int:
    """Of one example. Raises TypeError for a model without formulas."""
    width, tokens = model.width, model.positions(inputs)
    rms = isinstance(model, DecoderSettings) and model.norm_type == "rms_norm"
    norms = _Norms(rms=rms, fused=place == "cuda")
    # Norm and transform of every branch read the stream: the part of the connection's formula that a residual has too.
    each = model.sublayers * (norms.read(width) + Kept(half=width))
    each += _beyond(connection, width, model.sublayers, copied=norms.cast)
    if not (isinstance(connection, ReZeroSettings) and not connection.norm):
        each += model.sublayers * norms.inside(width)
    if model.dropout:  # masks
        each += model.sublayers * (Kept(octets=width) if norms.fused else Kept(half=width))
    if isinstance(model, DecoderSettings):
        kept = tokens * (each + _decoder(model, connection, inputs, norms))
    elif isinstance(model, PatchSettings) and isinstance(inputs, ImageInputs):
        kept = tokens * each + _patches(model, connection, inputs, norms)
    else:
        raise TypeError(f"no formulas for a {model.type}")
    return kept.size(precision)


def _beyond(connection: ConnectionSettings, width: int, sublayers: int, *, copied: bool) -> Kept:
    """Of one token, what a connection keeps more than a residual network. `copied`: norms read a copy in fp32."""
    elements = (connection.saved_bytes(width, sublayers) - ResidualSettings().saved_bytes(width, sublayers)) // 4
    if elements < 0:  # norms that share an input, but no copies of it
        return Kept(half=elements, copies=-elements // 2 if copied else 0)
    return Kept(full=elements, copies=connection.cast_states(sublayers) * width)


def _decoder(model: DecoderSettings, connection: ConnectionSettings, inputs: Inputs, norms: _Norms) -> Kept:
    """Of one token, inside of the transforms and behind the last state."""
    width, keys = model.width, key_width(model)
    # Projections, of which values are read as they are; queries and keys with their positions; the mixture.
    attention = Kept(half=(width + 2 * keys) + (width + keys) + width, full=model.heads)
    if model.qk_norm:
        attention += norms.rms_inside(width) + norms.rms_inside(keys) + Kept(copies=width + keys)
    if model.document_mask:
        attention += Kept(half=model.context)  # what is added to the scores, in every layer anew
    # Gate and up, SiLU, their product.
    feed_forward = _experts(model) if model.experts else Kept(half=4 * model.hidden)
    blocks = model.layers * (attention + feed_forward)
    blocks += Kept(
        half=-connection.separate_inputs(model.sublayers) * (width + keys)
    )  # apart, only values are read as they are
    # What the unembedding reads; log-softmax and targets.
    output = Kept(half=width, full=model.embedding_rows(inputs) + INT64)
    return blocks + norms.read(width) + norms.inside(width) + output


def _experts(model: DecoderSettings) -> Kept:
    """Of one token, in a mixture of experts."""
    assert model.experts is not None
    width, chosen = model.width, model.experts_per_token
    # For each of its experts the token itself, gate and up, SiLU, the product before and after its weight, that weight.
    pairs = chosen * Kept(half=width + 5 * model.hidden + 1, full=3 * INT64)  # and its place in three orders
    # The router reads the transform's input in fp32; logits, their sum of exponentials, softmax.
    return pairs + Kept(half=-width, full=width + 2 * model.experts + 1)


def _patches(model: PatchSettings, connection: ConnectionSettings, inputs: ImageInputs, norms: _Norms) -> Kept:
    """Of one image, inside of the transforms, before the embedding and behind the last state."""
    width, tokens = model.width, model.positions(inputs)
    attention = Kept(half=3 * width + width, full=model.heads)  # projections, the mixture
    if model.qk_norm:
        attention += 2 * (norms.rms_inside(width) + Kept(half=width, copies=width))
    each = model.layers * (attention + Kept(half=2 * model.hidden))  # before and after GELU
    once = Kept(half=model.patches(inputs) * patch_size(model, inputs))
    if isinstance(model, ViTSettings):
        # The class token is a view of the last state, and keeps all of it.
        normed = 1 if model.pool == "class_token" else tokens
        each += Kept(half=width)
        once += normed * norms.inside(width) + Kept(half=width, full=inputs.classes)
    elif isinstance(model, DiTSettings):
        # Modulated inputs of both branches, and their outputs before the gate; the same of the last state, normed too.
        each += model.layers * Kept(half=2 * 2 * width) + connection.separate_inputs(model.sublayers) * Kept(
            half=2 * width
        )
        each += norms.read(width) + norms.inside(width) + Kept(half=2 * width)
        if norms.fused:  # what is modulated is a norm's output
            each += (model.sublayers + 1) * Kept(half=-width, full=width)
        # The timestep's MLP; the condition, before and after SiLU.
        once += Kept(half=FREQUENCIES + 2 * width, full=2 * width)
        # Shift, scale and gate of every branch, and 1 + scale of every input and of the last state.
        once += model.sublayers * Kept(half=4 * width) + (2 * connection.separate_inputs(model.sublayers) + 1) * Kept(
            half=width
        )
        once += Kept(full=inputs.channels * inputs.size**2)  # the error
    else:
        raise TypeError(f"no formulas for a {model.type}")
    return tokens * each + once
