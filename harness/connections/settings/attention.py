"""Attention Residuals, softmax mixtures over the history of sub-layers: what may be switched, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.connections.settings.base import Claims, ConnectionSettings, Start, divisors

if TYPE_CHECKING:
    from harness.connections.attention import AttentionResiduals


class AttentionResidualsSettings(ConnectionSettings):
    """Attention Residuals, arXiv 2603.15031: every sub-layer reads a softmax mixture of the outputs before it.

    With `heads` it is multi-head attention residuals (MHAR, arXiv 2607.27230), with `variant: delta` the additive form
    (Delta Attention Residuals, arXiv 2605.18855).
    """

    type: Literal["attention_residuals"] = "attention_residuals"
    variant: Literal["full", "block", "delta"] = "full"
    """full: over the embedding and all outputs. block: over sums of outputs block by block. delta: as full, but added
    to an ordinary residual stream instead of in its place."""
    heads: int = Field(default=1, ge=1)
    """Slices of the width, each with a softmax of its own; must divide the width."""
    blocks: int = Field(default=8, ge=1)
    """Into how many blocks `block` divides the sub-layers; the last may be short."""

    def block_size(self, sublayers: int) -> int:
        """Sub-layers whose outputs make one source; 1 where every output is one."""
        return -(-sublayers // self.blocks) if self.variant == "block" else 1

    def sources(self, sublayers: int) -> list[int]:
        """How many sources every read has: of each sub-layer and, but for `delta`, of the output."""
        size = self.block_size(sublayers)
        reads = sublayers if self.variant == "delta" else sublayers + 1
        return [1 + -(-k // size) for k in range(reads)]

    def tag(self) -> str:
        tag = {"full": "attnres", "block": f"attnres-block{self.blocks}", "delta": "attnres-delta"}[self.variant]
        return tag + (f"-h{self.heads}" if self.heads > 1 else "")

    def build(self, dim: int, sublayers: int) -> AttentionResiduals:
        from harness.connections.attention import AttentionResiduals

        return AttentionResiduals(self, dim, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        return 2 * dim * (len(self.sources(sublayers)) - 1)  # a query and the weight of a norm; none for the first read

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        flops = sum(2 * count + 2 * count - 1 for count in self._mixed(sublayers))  # logits, mixture
        if self.variant == "block":
            flops += sublayers - self.sources(sublayers)[-1] + 1  # sums inside of blocks
        elif self.variant == "delta":
            flops += 2 * sublayers  # the mixture and the output, added to the stream
        return flops * dim

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        """Unfused: a norm's statistic and the logits each read every source, and so does the mixture."""
        read, written = 0, 0
        for count in self.sources(sublayers)[:sublayers]:  # without the final read
            if count > 1:
                read, written = read + count * (3 * dim + 1 + self.heads), written + count * (1 + self.heads) + dim
        sums = 0
        if self.variant == "block":
            sums = sublayers - self.sources(sublayers)[-1] + 1
        elif self.variant == "delta":
            sums = 2 * sublayers
        return read + 2 * dim * sums, written + dim * sums

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        mixed = self._mixed(sublayers)
        # Sources: the embedding and, as it is or as the partial sum that it ends, every output but the last of `delta`.
        sources = len(mixed) + 1 if mixed else 0
        kept = 2 * dim * sublayers + dim * sources  # what norms and transforms read, and the sources
        kept -= dim if mixed and self.variant != "delta" else 0  # the embedding is also what the first norm reads
        kept += 2 * sources  # length and factor of their norms
        kept += 2 * self.heads * sum(mixed)  # logits before the factor, and weights
        return 4 * kept

    def cast_states(self, sublayers: int) -> int:
        return 1

    def start(self) -> Start:
        """full and block: the pre-norm state over the number of sources."""
        return Start("pre-norm") if self.variant == "delta" else Start("direction")

    def claims(self) -> Claims:
        return Claims(start=self.start(), sublayers=max(6, 2 * self.blocks) if self.variant == "block" else 6)

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        if dim % self.heads:
            return "heads", f"{self.heads} heads do not divide the width {dim} (divisors: {divisors(dim)})"
        if self.variant != "block" and self.blocks != type(self).model_fields["blocks"].default:
            return "blocks", f"'blocks' concerns the variant 'block', and this is '{self.variant}'"
        return None

    def _mixed(self, sublayers: int) -> list[int]:
        """The numbers of sources of the reads that mix: one source is read as it is."""
        return [count for count in self.sources(sublayers) if count > 1]
