"""Bytes that a training step keeps for its backward pass, as formulas: what saved-tensor hooks count.

Every storage counts once, however often it is saved, and no parameter, buffer or input. The reference is fp32 on a CPU,
where torch takes RMSNorm apart. The inputs of every branch's norm and transform are part of the connection's own
formula, so what stands here for a branch comes on top of those two.

Under bf16 autocast most of it is kept in bf16. RMSNorm reads a copy in fp32 and keeps its intermediates so; statistics,
the logits' log-softmax, and whatever a connection keeps beyond a residual network are fp32 too.

On a GPU, RMSNorm is one operation that keeps no normalised input, LayerNorm reads a copy in fp32 under autocast too, and
dropout's masks are bytes (torch's list of operations in fp32: ATen/autocast_mode.h). All else is taken to be as on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.connections.settings import (
    AltUpSettings,
    AttentionResidualsSettings,
    ConnectionSettings,
    DenseFormerSettings,
    HyperSettings,
    LaurelSettings,
    MUDDSettings,
    ResidualSettings,
    ReZeroSettings,
)
from harness.connections.settings.base import BRANCHES_PER_BLOCK
from harness.data.inputs import ImageInputs, Inputs
from harness.models.cost.weights import FREQUENCIES, key_width, patch_size
from harness.models.settings import DecoderSettings, DiTSettings, ModelSettings, PatchSettings, ViTSettings

Precision = Literal["fp32", "bf16"]
Place = Literal["cpu", "cuda"]

INT64 = 2
"""Elements of four bytes in an integer."""


@dataclass(frozen=True)
class Kept:
    """Numbers kept: in the precision of products, always in fp32, copies in fp32 of what autocast made bf16, bytes."""

    half: int = 0
    full: int = 0
    copies: int = 0
    octets: int = 0

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
    """What norms keep."""

    fused: bool
    """On a GPU."""

    def rms(self, width: int) -> Kept:
        """Besides its input: the factor, and, for the gradient of the weight, the normalised input."""
        return Kept(full=1 if self.fused else width + 1)

    def layer(self) -> Kept:
        """Besides its input: mean and factor. The output is made of the input again."""
        return Kept(full=2)

    def read(self, width: int, *, rms: bool) -> Kept:
        """The input, of which autocast makes a copy in fp32 where the norm is one of its operations in fp32, or, for
        RMSNorm on a CPU, in the parts that it is taken apart into."""
        return Kept(full=width) if rms or self.fused else Kept(half=width)


def saved_bytes(
    model: ModelSettings, connection: ConnectionSettings, inputs: Inputs, *, precision: Precision = "fp32"
) -> int:
    """Of one example. Raises TypeError for a model without formulas."""
    width, tokens = model.width, model.positions(inputs)
    rms = isinstance(model, DecoderSettings) and model.norm_type == "rms_norm"
    # Norm and transform of every branch read the stream: the part of the connection's formula that a residual has too.
    read = model.sublayers * (Kept(half=width) + (Kept(full=width) if rms else Kept(half=width)))
    beyond = _beyond(connection, width, model.sublayers, copied=rms)
    dropped = model.sublayers * Kept(half=width if model.dropout else 0)  # masks, in the numbers' own precision
    if isinstance(model, DecoderSettings):
        kept = tokens * (read + beyond + dropped + _decoder(model, connection, inputs))
    elif isinstance(model, PatchSettings) and isinstance(inputs, ImageInputs):
        kept = tokens * (read + beyond + dropped) + _patches(model, connection, inputs)
    else:
        raise TypeError(f"no formulas for a {model.type}")
    return kept.size(precision)


def _beyond(connection: ConnectionSettings, width: int, sublayers: int, *, copied: bool) -> Kept:
    """Of one token, what a connection keeps more than a residual network. `copied`: norms read a copy in fp32."""
    elements = (connection.saved_bytes(width, sublayers) - ResidualSettings().saved_bytes(width, sublayers)) // 4
    if elements < 0:  # norms that share an input; with copies there are as many of those
        return Kept(half=elements, copies=-elements // 2 if copied else 0)
    return Kept(full=elements, copies=_shared(connection, sublayers) * width)


def _shared(connection: ConnectionSettings, sublayers: int) -> int:
    """States that norms and the wiring both read, or that are views of the embedding: one storage where all is fp32,
    and one more each where the wiring casts what it reads."""
    if isinstance(connection, LaurelSettings):
        return sublayers
    if isinstance(connection, AltUpSettings):
        return sublayers // BRANCHES_PER_BLOCK + connection.rate - 1
    if isinstance(connection, HyperSettings):
        return connection.rate - 1
    return int(isinstance(connection, DenseFormerSettings | AttentionResidualsSettings | MUDDSettings))


def _separate(model: ModelSettings, connection: ConnectionSettings) -> int:
    """Attentions that get query, key and value apart."""
    return model.layers - 1 if isinstance(connection, MUDDSettings) else 0


def _norms(model: ModelSettings, connection: ConnectionSettings, one: Kept) -> Kept:
    """What the norms of all branches keep besides their inputs."""
    unused = isinstance(connection, ReZeroSettings) and not connection.norm
    return Kept() if unused else model.sublayers * one


def _rms(width: int) -> Kept:
    """The normalised input, for the gradient of the weight, and the factor."""
    return Kept(full=width + 1)


LAYER_NORM = Kept(full=2)
"""Mean and factor: the output is made of the input again."""


def _decoder(model: DecoderSettings, connection: ConnectionSettings, inputs: Inputs) -> Kept:
    """Of one token, without what the connection's formula has."""
    width, keys = model.width, key_width(model)
    rms = model.norm_type == "rms_norm"
    norm = _rms(width) if rms else LAYER_NORM
    last = norm + (Kept(full=width) if rms else Kept(half=width))
    attention = Kept(half=(width + 2 * keys) + (width + keys) + width, full=model.heads)
    if model.qk_norm:
        attention += _rms(width) + _rms(keys) + Kept(copies=width + keys)
    if model.document_mask:
        attention += Kept(half=model.context)  # what is added to the scores, in every layer anew
    feed_forward = _experts(model) if model.experts else Kept(half=4 * model.hidden)
    rows = model.embedding_rows(inputs)
    return (
        model.layers * (attention + feed_forward)
        + Kept(half=-_separate(model, connection) * (width + keys))  # projections that only rotary positions read
        + _norms(model, connection, norm)
        + last
        + Kept(half=width, full=rows + INT64)  # what the unembedding reads; log-softmax; targets
    )


def _experts(model: DecoderSettings) -> Kept:
    """Of one token, in a mixture of experts."""
    assert model.experts is not None
    width, chosen = model.width, model.experts_per_token
    # For each of its experts the token itself, gate and up, SiLU, the product before and after its weight, that weight.
    pairs = chosen * Kept(half=width + 5 * model.hidden + 1, full=3 * INT64)  # and its place in three orders
    # The router reads the transform's input in fp32; logits, their sum of exponentials, softmax.
    return pairs + Kept(half=-width, full=width + 2 * model.experts + 1)


def _patches(model: PatchSettings, connection: ConnectionSettings, inputs: ImageInputs) -> Kept:
    """Of one image, without what the connection's formula has."""
    width, tokens, numbers = model.width, model.positions(inputs), patch_size(model, inputs)
    attention = Kept(half=3 * width + width, full=model.heads)
    if model.qk_norm:
        attention += 2 * (_rms(width) + Kept(half=width, copies=width))
    feed_forward = Kept(half=2 * model.hidden)
    each = model.layers * (attention + feed_forward) + _norms(model, connection, LAYER_NORM)
    each += Kept(half=width)  # the last state
    once = Kept(half=model.patches(inputs) * numbers)
    if isinstance(model, ViTSettings):
        normed = 1 if model.pool == "class_token" else tokens
        once += normed * LAYER_NORM + Kept(half=width, full=inputs.classes)
    elif isinstance(model, DiTSettings):
        # Modulated inputs of both branches, and their outputs before the gate.
        each += model.layers * Kept(half=2 * 2 * width) + _separate(model, connection) * Kept(half=2 * width)
        each += LAYER_NORM + Kept(half=2 * width)  # the final norm's output, and modulated
        # The timestep's MLP; the condition, before and after SiLU.
        once += Kept(half=FREQUENCIES + 2 * width, full=2 * width)
        once += model.sublayers * Kept(half=4 * width) + Kept(half=width)  # shift, scale, gate; 1 + scale
        once += _separate(model, connection) * Kept(half=2 * width)
        once += Kept(full=inputs.channels * inputs.size**2)  # the error
    else:
        raise TypeError(f"no formulas for a {model.type}")
    return tokens * each + once
