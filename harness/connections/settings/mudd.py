"""MUDDFormer, four dynamic averages over the history of blocks: what may be switched, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.connections.settings.base import BRANCHES_PER_BLOCK, ConnectionSettings, Start, not_whole_blocks

if TYPE_CHECKING:
    from harness.connections.mudd import MUDDConnections

WAYS = 4
"""Query, key, value and residual input of the next block."""


class MUDDSettings(ConnectionSettings):
    """MUDDFormer, arXiv 2502.12170: query, key, value and residual each a dynamic average over all blocks' outputs."""

    type: Literal["mudd"] = "mudd"

    def sizes(self, sublayers: int) -> list[tuple[int, int]]:
        """(ways, states) of the average after every block; the last one makes the output alone."""
        blocks = sublayers // BRANCHES_PER_BLOCK
        return [(WAYS if b + 1 < blocks else 1, b + 2) for b in range(blocks)]

    def tag(self) -> str:
        return "mudd"

    def build(self, dim: int, sublayers: int) -> MUDDConnections:
        from harness.connections.mudd import MUDDConnections

        return MUDDConnections(self, dim, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        count = 0
        for ways, states in self.sizes(sublayers):
            hidden = ways * states
            count += dim * hidden + hidden * hidden + hidden  # w1, w2, static
            count += 2 * dim if ways > 1 else 0  # norms of the next block's key and value inputs
        return count

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        averages = sum(4 * ways * states for ways, states in self.sizes(sublayers))  # w1; the averages
        return dim * (sublayers + averages)  # and the residuals inside the blocks

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        read, written = 2 * dim * sublayers, dim * sublayers  # the residuals inside the blocks
        for ways, states in self.sizes(sublayers):
            strengths = ways * states
            read, written = read + dim, written + strengths  # their prediction
            read, written = read + strengths * (dim + 1), written + ways * dim  # every way reads all states
        return read, written

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        # What the feed-forwards' norms and transforms read and what the first block's do.
        sizes = self.sizes(sublayers)
        kept = 4 * dim * len(sizes)
        for ways, states in sizes:
            kept += dim  # the newest state
            kept += 3 * ways * states + 2  # the hidden layer before its norm, before and after GELU; the norm's two
            kept += ways * states  # the strengths
            if ways > 1:
                kept += ways * dim  # the next block's inputs, one tensor, of which its norms read three
                kept += 2 * (dim + 1)  # key and value normalised, for the norms' weights; their statistics
                kept += 2 * dim  # key and value as the transform reads them
                kept -= dim  # the next block's query norm reads one of the inputs above
        return 4 * kept

    def moves_norm(self) -> bool:
        return True

    def cast_states(self, sublayers: int) -> int:
        return 1

    def separate_inputs(self, sublayers: int) -> int:
        return sublayers // BRANCHES_PER_BLOCK - 1

    def start(self) -> Start:
        return Start("pre-norm", within=1e-5)

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        return not_whole_blocks(self.type, sublayers)
