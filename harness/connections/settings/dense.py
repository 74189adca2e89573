"""DenseFormer, weighted averages over the history of blocks: what may be switched, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.connections.settings.base import BRANCHES_PER_BLOCK, Claims, ConnectionSettings, Start, not_whole_blocks

if TYPE_CHECKING:
    from harness.connections.dense import DenseFormerConnections


class DenseFormerSettings(ConnectionSettings):
    """DenseFormer, arXiv 2402.02622: a learned average over the history, all blocks' outputs, after a block."""

    type: Literal["denseformer"] = "denseformer"
    dilation: int = Field(default=1, ge=1)
    """Block i averages over every `dilation`-th output: those j <= i with j = i mod `dilation`."""
    period: int = Field(default=1, ge=1)
    """Only every `period`-th block is followed by an average. The paper's "4x5" is dilation 4, period 5."""

    def rows(self, sublayers: int) -> dict[int, int]:
        """For every block i (from 1) that an average follows: the number of its weights."""
        blocks = sublayers // BRANCHES_PER_BLOCK
        return {i: i // self.dilation + 1 for i in range(self.period, blocks + 1, self.period)}

    def tag(self) -> str:
        usual = self.dilation == self.period == 1
        return "denseformer" if usual else f"denseformer-d{self.dilation}-p{self.period}"

    def build(self, dim: int, sublayers: int) -> DenseFormerConnections:
        from harness.connections.dense import DenseFormerConnections

        return DenseFormerConnections(self, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        """K (K + 3) / 2 with K blocks, where dilation and period are 1 (section 3.1)."""
        return sum(self.rows(sublayers).values())

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        averages = sum(2 * size - 1 for size in self.rows(sublayers).values())
        return dim * (sublayers + averages)  # the residuals inside the blocks; c products and c - 1 sums

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        rows = self.rows(sublayers)
        read, written = 2 * dim * sublayers, dim * sublayers  # the residuals inside the blocks
        return read + (dim + 1) * sum(rows.values()), written + dim * len(rows)

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        # What norms and transforms read, and, for the gradient of the weights, every block's output that is followed
        # by an average: all others that an average looks at are read by the next block as they are.
        return 4 * dim * (2 * sublayers + len(self.rows(sublayers)))

    def cast_states(self, sublayers: int) -> int:
        return 1

    def start(self) -> Start:
        return Start("pre-norm")

    def claims(self) -> Claims:
        # Blocks enough for two averages, the second over more than one state of its own dilation.
        blocks = max(3, 2 * self.period, self.period * -(-2 * self.dilation // self.period))
        return Claims(start=self.start(), sublayers=BRANCHES_PER_BLOCK * blocks)

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        rows = self.rows(sublayers)
        if not rows:
            return "period", f"no average: the first would follow block {self.period} of {sublayers // 2}"
        if max(rows.values()) == 1:
            return "dilation", f"no average reaches back as far as the dilation {self.dilation}"
        return not_whole_blocks(self.type, sublayers)
