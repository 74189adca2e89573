"""One-stream residuals with learned strengths, ReZero and LAuReL: what may be switched, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.connections.settings.base import BRANCHES_PER_BLOCK, ConnectionSettings, Start

if TYPE_CHECKING:
    from harness.connections.laurel import LaurelConnections
    from harness.connections.residual import ReZeroConnections


class ReZeroSettings(ConnectionSettings):
    """ReZero, arXiv 2003.04887: x + alpha branch(x), one learned alpha a block, 0 at first.

    The defaults keep the branch's pre-norm, where the paper has no norm at all: as a language model the norm-free form
    was the worse one (arXiv 2102.11972). The decoder's final norm stays in every form.
    """

    type: Literal["rezero"] = "rezero"
    norm: bool = True
    """Keep the branch's norm inside; the paper removes all norms (false)."""
    shared: bool = True
    """One alpha for both sub-layers of a block (the authors' code), or one for each."""

    def tag(self) -> str:
        return "rezero" + ("" if self.norm else "-nonorm") + ("" if self.shared else "-unshared")

    def build(self, dim: int, sublayers: int) -> ReZeroConnections:
        from harness.connections.residual import ReZeroConnections

        return ReZeroConnections(self, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        return sublayers // BRANCHES_PER_BLOCK if self.shared else sublayers

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        return 2 * dim * sublayers  # alpha times the output, added

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        return (3 * dim + 1) * sublayers, 2 * dim * sublayers  # the product reads D + 1, the sum 2 D

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        # What norm, if there is one, and transform read, and the branch's output, for the gradient of alpha.
        return 4 * (3 if self.norm else 2) * dim * sublayers

    def moves_norm(self) -> bool:
        return not self.norm

    def start(self) -> Start:
        return Start("embedding")

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        if self.shared and sublayers % BRANCHES_PER_BLOCK:
            return "shared", f"one alpha a block needs whole blocks of sub-layers, and there are {sublayers}"
        return None


class LaurelSettings(ConnectionSettings):
    """LAuReL, arXiv 2411.07501: residual weights (rw), a low-rank term (lr), both, or previous activations (pa).

    Of the paper's combinations `rw_lr` is offered, and `pa` with the low-rank map.
    """

    type: Literal["laurel"] = "laurel"
    variant: Literal["rw", "lr", "rw_lr", "pa"] = "rw_lr"
    """rw: alpha f(x) + beta x. lr: f(x) + x + x A B. rw_lr: alpha f(x) + beta (x + x A B). pa: f(x) + x + the low-rank
    maps of the latest states, each with a weight."""
    rank: int = Field(default=16, ge=1)
    """Rank r of the low-rank map; not with `rw`. The paper recommends 32 to 64 for language models."""
    previous: int = Field(default=3, ge=1)
    """How many of the latest states, the current one among them, `pa` looks at."""

    @property
    def weighted(self) -> bool:
        """Whether output and state have weights, alpha and beta."""
        return self.variant in ("rw", "rw_lr")

    @property
    def low_rank(self) -> bool:
        return self.variant != "rw"

    def tag(self) -> str:
        tag = f"laurel-{self.variant.replace('_', '')}"
        tag += f"-r{self.rank}" if self.low_rank else ""
        return tag + (f"-k{self.previous}" if self.variant == "pa" else "")

    def build(self, dim: int, sublayers: int) -> LaurelConnections:
        from harness.connections.laurel import LaurelConnections

        return LaurelConnections(self, dim, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        count = 2 if self.weighted else 0
        count += 2 * self.rank * dim if self.low_rank else 0
        return count * sublayers + (self._reads(sublayers) if self.variant == "pa" else 0)

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        flops = (3 if self.weighted else 2) * dim * sublayers  # alpha f + beta x, or f + x and the term below
        if self.low_rank:
            flops += 2 * dim * self.rank * (self._reads(sublayers) + sublayers)  # down for every state read, up once
            flops += dim * sublayers if self.weighted else 0  # the low-rank term added
        return flops

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        read, written = 2 * dim, dim  # the output added
        if self.weighted:
            read, written = read + 2 * dim + 2, written + 2 * dim  # alpha times the output, beta times the state
        if self.low_rank:
            read, written = read + 2 * dim + self.rank, written + 2 * dim  # up, and its result added
        read, written = read * sublayers, written * sublayers
        if self.low_rank:
            reads = self._reads(sublayers)
            read, written = read + dim * reads, written + self.rank * reads  # down
            if self.variant != "lr":  # beta, or gamma and the sum over the states
                read, written = read + (self.rank + 1) * reads, written + self.rank * sublayers
        return read, written

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        each = 2 * dim  # what norm, which reads the state, and transform read; states serve `down`, `pa` and beta too
        each += dim if self.weighted else 0  # the branch's output, for the gradient of alpha
        each += self.rank if self.low_rank else 0  # what `up` reads
        each += self.rank if self.variant == "rw_lr" else 0  # the same before its product with beta
        kept = each * sublayers
        if self.variant == "pa":
            kept += self.rank * self._reads(sublayers)  # what each state is mapped to, for the gradient of gamma
        return 4 * kept

    def cast_states(self, sublayers: int) -> int:
        return sublayers

    def start(self) -> Start:
        return Start("pre-norm")

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        """A switch of a part that the variant has not: the arm would claim a difference that is none."""
        if self.low_rank and self.rank > dim:
            return "rank", f"rank {self.rank} is more than the width {dim}"
        if not self.low_rank and self.rank != type(self).model_fields["rank"].default:
            return "rank", f"'rank' concerns the low-rank map, and the variant '{self.variant}' has none"
        if self.variant != "pa" and self.previous != type(self).model_fields["previous"].default:
            return "previous", f"'previous' concerns the variant 'pa', and this is '{self.variant}'"
        return None

    def _reads(self, sublayers: int) -> int:
        """How many states all sub-layers together map down: sub-layer k has k + 1 states at most to look at."""
        most = self.previous if self.variant == "pa" else 1
        return sum(min(most, k + 1) for k in range(sublayers))
