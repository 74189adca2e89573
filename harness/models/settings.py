"""Shapes of the models, without torch. What the data decide (vocabulary, image size) comes as `Inputs`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainValidator, SerializeAsAny
from pydantic_core import PydanticCustomError

from harness.connections.settings import ConnectionSettings
from harness.connections.settings.base import NormType
from harness.data.inputs import ImageInputs, Inputs, TextInputs
from harness.data.settings import Kind
from harness.settings import Settings

FREQUENCIES = 256
"""Numbers that a DiT's timestep becomes before its MLP: half cosines, half sines (the paper's code)."""

Problem = tuple[str, str] | None
"""(key, what is wrong), or None."""


class ModelSettings(Settings, ABC):
    """What all models share: blocks of attention and feed-forward, wired by a connection."""

    DATA: ClassVar[tuple[Kind, ...]]
    """What the model can learn from."""
    UNIT: ClassVar[str]
    """Unit of its loss, on what it usually learns from."""

    type: str
    layers: int = Field(ge=1)
    """Transformer blocks; each holds two sub-layers (attention, feed-forward)."""
    width: int = Field(ge=2)
    heads: int = Field(ge=1)
    ffn_width: int | None = Field(default=None, ge=1)
    """Hidden width of the feed-forward."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """On the output of every branch, before the connection."""
    qk_norm: bool = False
    """Normalise queries and keys: RMSNorm with weight, over all heads together."""
    init_std: float = Field(default=0.02, gt=0.0)
    """Normal initialisation; output projections of the branches are divided by sqrt(2 · layers) besides."""

    @property
    def sublayers(self) -> int:
        return 2 * self.layers

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    @abstractmethod
    def hidden(self) -> int:
        """Hidden width of the feed-forward, given or by default."""

    @abstractmethod
    def positions(self, inputs: Inputs) -> int:
        """Tokens per example that the branches see."""

    def unit(self, kind: Kind) -> str:
        """Unit of its loss on such data."""
        return self.UNIT

    def identity(self) -> dict[str, Any]:
        """The keys that decide the numbers of a run, in one canonical form."""
        return self.model_dump(mode="json")

    def problem(self) -> Problem:
        """What does not fit together in the numbers."""
        if self.width % self.heads:
            return "heads", f"{self.heads} heads do not divide the width {self.width}"
        return None

    def problem_with(self, inputs: Inputs) -> Problem:
        """What does not fit the data."""
        return None

    def problem_of(self, connection: ConnectionSettings) -> str | None:
        """Why this connection cannot wire this model, or None."""
        return None


class DecoderSettings(ModelSettings):
    """A decoder: rotary positions, SwiGLU, no biases; dense, or with a mixture of experts in every block."""

    DATA = ("text", "symbols")
    UNIT = "nats per token"

    type: Literal["decoder"] = "decoder"
    context: int = Field(ge=2)
    """Tokens per sequence."""
    kv_heads: int | None = Field(default=None, ge=1)
    """Grouped-query attention (arXiv 2305.13245): heads of keys and values; by default as many as `heads`."""
    norm_type: NormType = "rms_norm"
    """Norms of branches and output; `layer_norm_no_affine` is OLMo-1's (arXiv 2402.00838)."""
    norm_position: Literal["before", "after"] = "before"
    """Whether a branch norms its input, or its output before the connection: the reordered norm of OLMo-2
    (arXiv 2501.00656)."""
    norm_eps: float = Field(default=1e-5, gt=0.0)
    rope_theta: float = Field(default=10_000.0, gt=0.0)
    tied: bool = True
    """Unembed with the embedding's own matrix."""
    vocabulary: int | None = Field(default=None, ge=2)
    """Rows of the embedding where they are more than the tokenizer has (padding); by default the tokenizer's."""
    document_mask: bool = False
    """Tokens attend within their own document only, where several are packed into a sequence."""
    experts: int | None = Field(default=None, ge=2)
    """Mixture of experts in the place of every feed-forward (OLMoE, arXiv 2409.02060), each of `ffn_width`."""
    experts_per_token: int = Field(default=2, ge=1)
    balance_loss: float = Field(default=0.01, ge=0.0)
    """Weight of the load-balancing loss."""
    router_z_loss: float = Field(default=0.001, ge=0.0)
    """Weight of the router z-loss."""

    @property
    def hidden(self) -> int:
        """8/3 of the width, shared by the experts of a token where there are experts, to a multiple of 16 upwards."""
        shared = self.experts_per_token if self.experts else 1
        return self.ffn_width if self.ffn_width is not None else -(-8 * self.width // (3 * shared) // 16) * 16

    @property
    def key_heads(self) -> int:
        return self.kv_heads if self.kv_heads is not None else self.heads

    def positions(self, inputs: Inputs) -> int:
        return self.context

    def unit(self, kind: Kind) -> str:
        return "nats per answer" if kind == "symbols" else self.UNIT

    def identity(self) -> dict[str, Any]:
        experts = {"experts_per_token", "balance_loss", "router_z_loss"}
        return {
            **self.model_dump(mode="json", exclude=experts if self.experts is None else None),
            "kv_heads": self.key_heads,
        }

    def embedding_rows(self, inputs: Inputs) -> int:
        assert isinstance(inputs, TextInputs)
        return self.vocabulary if self.vocabulary is not None else inputs.vocabulary

    def problem(self) -> Problem:
        if found := super().problem():
            return found
        if self.head_width % 2:
            return "heads", f"head width {self.head_width} is odd; rotary positions turn pairs"
        if self.heads % self.key_heads:
            return "kv_heads", f"{self.key_heads} heads of keys and values do not divide the {self.heads} heads"
        if self.experts is not None:
            if self.experts_per_token > self.experts:
                return "experts_per_token", f"there are {self.experts} experts, not {self.experts_per_token}"
            if self.width % 8 or self.hidden % 8:
                return "experts", f"grouped products need widths that 8 divides: {self.width}, {self.hidden}"
        return None

    def problem_with(self, inputs: Inputs) -> Problem:
        if not isinstance(inputs, TextInputs):
            return "type", "a decoder learns from text, and these data are images; model.type is vit or dit"
        if self.vocabulary is not None and self.vocabulary < inputs.vocabulary:
            return "vocabulary", f"{self.vocabulary} is less than the {inputs.vocabulary} tokens of the tokenizer"
        if self.document_mask and inputs.boundary is None:
            return "document_mask", "the tokenizer has no token between documents"
        return None

    def problem_of(self, connection: ConnectionSettings) -> str | None:
        if self.norm_position == "after" and connection.moves_norm():
            return (
                f"'{connection.type}' puts the norm before a branch elsewhere, and with norm_position 'after' is none"
            )
        return None


class PatchSettings(ModelSettings):
    """What models of images share: square patches, biases, a GELU feed-forward."""

    DATA = ("images",)

    patch: int = Field(ge=1)
    """Pixels a side of a patch; every patch is a token."""
    norm_eps: float = Field(default=1e-6, gt=0.0)

    @property
    def hidden(self) -> int:
        """Four times the width by default."""
        return self.ffn_width if self.ffn_width is not None else 4 * self.width

    def patches(self, inputs: Inputs) -> int:
        assert isinstance(inputs, ImageInputs)
        return (inputs.size // self.patch) ** 2

    def positions(self, inputs: Inputs) -> int:
        return self.patches(inputs)

    def problem_with(self, inputs: Inputs) -> Problem:
        if not isinstance(inputs, ImageInputs):
            return "type", f"a {self.type} learns from images, and these data are text; model.type is decoder"
        if inputs.size % self.patch:
            return "patch", f"patches of {self.patch} pixels do not divide images of {inputs.size}"
        return None


class ViTSettings(PatchSettings):
    """A Vision Transformer classifier, arXiv 2010.11929."""

    UNIT = "nats per image"

    type: Literal["vit"] = "vit"
    pool: Literal["class_token", "mean"] = "class_token"
    """What the classifier reads: a token of its own (the paper), or the mean over patches."""

    def positions(self, inputs: Inputs) -> int:
        return self.patches(inputs) + (self.pool == "class_token")


class DiTSettings(PatchSettings):
    """A class-conditional denoiser with adaLN-zero, arXiv 2212.09748; it predicts the noise."""

    UNIT = "squared error per pixel"

    type: Literal["dit"] = "dit"
    timesteps: int = Field(default=1000, ge=2)
    """Noise levels of the diffusion (arXiv 2006.11239)."""
    schedule: Literal["linear", "cosine"] = "linear"
    class_dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of training examples whose class is hidden, for guidance without a classifier (arXiv 2207.12598)."""

    def problem(self) -> Problem:
        if found := super().problem():
            return found
        if self.width % 4:
            return "width", f"fixed positions in two directions need a width that 4 divides, not {self.width}"
        return None


MODELS: dict[str, type[ModelSettings]] = {"decoder": DecoderSettings, "vit": ViTSettings, "dit": DiTSettings}


def _by_type(raw: Any) -> ModelSettings:
    """The settings of the class that `type` names; a decoder where it names none."""
    if isinstance(raw, ModelSettings):
        return raw
    if not isinstance(raw, dict):
        raise PydanticCustomError("model_mapping", "must be a mapping of keys")
    kind = MODELS.get(str(raw.get("type", "decoder")))
    if kind is None:
        raise PydanticCustomError("unknown_model", "unknown model '{tag}'", {"tag": str(raw["type"])})
    return kind.model_validate(raw)


AnyModel = Annotated[SerializeAsAny[ModelSettings], PlainValidator(_by_type)]
"""A field that takes the settings of any model in the table, chosen by `type`."""
