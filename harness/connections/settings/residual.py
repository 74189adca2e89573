"""The residual connection and its one-stream relatives without parameters: what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.connections.settings.base import BRANCHES_PER_BLOCK, ConnectionSettings, Start, not_whole_blocks

if TYPE_CHECKING:
    from harness.connections.residual import ParallelConnections, PostNormConnections, ResidualConnections


class OneSumSettings(ConnectionSettings):
    """What types without parameters cost whose only work is to add every output to one stream."""

    def parameter_count(self, dim: int, sublayers: int) -> int:
        return 0

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        return dim * sublayers

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        return 2 * dim * sublayers, dim * sublayers

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        return 4 * 2 * dim * sublayers  # what norm and transform read


class ResidualSettings(OneSumSettings):
    """Pre-norm residual, arXiv 2002.04745: x + branch(x)."""

    type: Literal["residual"] = "residual"

    def tag(self) -> str:
        return "residual"

    def build(self, dim: int, sublayers: int) -> ResidualConnections:
        from harness.connections.residual import ResidualConnections

        return ResidualConnections()

    def start(self) -> Start:
        return Start("pre-norm")


class PostNormSettings(OneSumSettings):
    """Post-norm residual, arXiv 1706.03762: norm(x + sub-layer(x)), the branch's own norm behind the sum."""

    type: Literal["post_norm"] = "post_norm"

    def tag(self) -> str:
        return "post-norm"

    def build(self, dim: int, sublayers: int) -> PostNormConnections:
        from harness.connections.residual import PostNormConnections

        return PostNormConnections()

    def moves_norm(self) -> bool:
        return True

    def start(self) -> Start:
        return Start("own")


class ParallelSettings(OneSumSettings):
    """Parallel block (GPT-J, PaLM arXiv 2204.02311): x + attention(x) + feed-forward(x), each with its own norm."""

    type: Literal["parallel"] = "parallel"

    def tag(self) -> str:
        return "ptb"

    def build(self, dim: int, sublayers: int) -> ParallelConnections:
        from harness.connections.residual import ParallelConnections

        return ParallelConnections()

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        # Per block the state, which both norms read, and what the two transforms read.
        return 4 * 3 * dim * (sublayers // BRANCHES_PER_BLOCK)

    def start(self) -> Start:
        return Start("own")  # the feed-forward does not see its block's attention

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        return not_whole_blocks(self.type, sublayers)
