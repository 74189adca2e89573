"""What every connection type states about itself, without torch: its switches and its costs as formulas.

`plan` has to tell the price before anything heavy is imported, so the numbers live in this package and the tensor code
beside it. Symbols: D width, N streams (HC), M fractions (FC), L sub-layers (two per block).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.settings import Settings

if TYPE_CHECKING:
    from harness.connections.base import Connections

NormType = Literal["layer_norm", "layer_norm_no_affine", "rms_norm"]

MOST_ROWS = 1024
"""Bound on rates: a typing error, rather than a study, is larger."""

STATES_PER_KEPT = 2
"""Kernels keep one state of so many and make the others again from it, for a few products a number, where they would be
written once and read twice."""

BRANCHES_PER_BLOCK = 2
"""Attention, then feed-forward: types that wire whole blocks rely on that order."""


@dataclass(frozen=True)
class Start:
    """What a network computes at initialisation, before its final norm.

    `pre-norm`: `factor` times the state of the pre-norm residual network. `direction`: a multiple of it that differs
    from token to token, which norms take away. `embedding`: the embedding, as if there were no branches. `own`:
    another network, such as post-norm.
    """

    kind: Literal["pre-norm", "direction", "embedding", "own"]
    factor: float = 1.0
    within: float = 1e-8
    """Relative difference that epsilons of norms make where a norm sees a multiple of the state, or has its own."""


Family = Literal["streams", "fractions", "slots", "constrained", "depth"]
"""What travels between sub-layers: N streams (HC), M fractions of one (FC), n slots of width D/m (GHC), streams whose
coefficients are squashed (mHC), or anything else: one stream, or the history."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What an implementation says of itself: decides which laws of `harness conform` concern it, and what they
    expect."""

    start: Start | None
    """What the network is at initialisation; None where its source does not say."""
    family: Family = "depth"
    rows: int = 1
    """Streams, fractions or slots."""
    parts: int = 1
    """Rows that make one input of a sub-layer: 1, m or m."""
    stagger: str = "cyclic"
    """`streams`, `constrained`: sub-layer k reads stream k mod n at first, unless the settings ask for something
    else."""
    symmetric: str = ""
    """Why streams stay equal for ever, if that is intended."""
    constant_carry: str = ""
    """Why the carry is a constant, if it is one by intention."""
    dynamic_bound: float | None = None
    """How far a saturated dynamic part moves a coefficient at first; None where it is not bounded or not there."""
    normalised: bool = False
    """There is a dynamic part, behind a norm."""
    exact: bool = False
    """`constrained`: the mixer is doubly stochastic by construction, not in the limit of an iteration."""
    iterations: int | None = None
    """`constrained`: after how many rounds, columns first, the mixer's iteration stops; None where nobody says."""
    sublayers: int = 6
    """Depth at which everything that the settings ask for can be seen."""


class ConnectionSettings(Settings, ABC):
    """One connection type with its switches. Costs are per network of `sublayers` sub-layers of width `dim`."""

    type: str

    @abstractmethod
    def tag(self) -> str:
        """Short name made of the settings alone: `residual`, `shc-n2`, `dhc-n4`, `dfc-m4-notanh`."""

    @abstractmethod
    def build(self, dim: int, sublayers: int) -> Connections:
        """The stack of connections around `sublayers` branches of width `dim`. Imports torch."""

    @abstractmethod
    def parameter_count(self, dim: int, sublayers: int) -> int:
        """Learned numbers that the connection adds to the network."""

    @abstractmethod
    def flops_per_token(self, dim: int, sublayers: int) -> int:
        """Forward floating-point operations per token, two for a multiply-add: products and sums over streams or over
        the history, projections, the sum at the end. Norms, squashing functions and what does not grow with the width
        are not counted."""

    @abstractmethod
    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        """Elements (read, written) per token, forward, every operation unfused: each reads its operands and writes its
        result (the convention of mHC, arXiv 2512.24880, Table 2). What happens once per network is left out."""

    @abstractmethod
    def saved_bytes(self, dim: int, sublayers: int) -> int:
        """Bytes per token, in fp32, that are kept for the backward pass outside of the branches: intermediates of the
        wiring, and the inputs of every branch's norm and of its transform (a residual network keeps those alone). A
        storage counts once, however many views of it are kept. What does not grow with the width is counted too."""

    def fused_saved_bytes(self, dim: int, sublayers: int) -> int | None:
        """`saved_bytes` where kernels compute the connection; None for a type that has none."""
        return None

    @abstractmethod
    def start(self) -> Start:
        """What the network is at initialisation (with `output_init_factor` 1)."""

    def moves_norm(self) -> bool:
        """Whether it puts the norms of the branches elsewhere, or leaves them out: it needs branches that norm their
        input."""
        return False

    def cast_states(self, sublayers: int) -> int:
        """How many states of the stream's width norms and the wiring both read, or are views of the embedding: one
        storage where all is fp32, one more each where the stream is bf16 and the wiring casts what it reads."""
        return 0

    def separate_inputs(self, sublayers: int) -> int:
        """How many attention branches get query, key and value apart."""
        return 0

    def claims(self) -> Claims:
        """What the laws may expect. The default is that of a type whose state is no set of rows."""
        return Claims(start=self.start())

    def reference(self, parameters: Any, x_BTD: Any, branches: Any) -> Any:
        """The whole stack written plainly from the equations, which the law `equations` holds the fast one against:
        (parameters by their names in the stack's state_dict, embedding, branches) -> state, in float64. None where
        the reference stands in `harness.conform.references`, as for the types of this package."""
        return None

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        """(key, what is wrong) when the settings do not fit the width or the depth, or each other; else None."""
        return None

    def output_init_factor(self) -> float:
        """Factor on the initial weights of each branch's output projection."""
        return 1.0


def norm_parameters(norm_type: NormType, dim: int) -> int:
    """|norm| of the papers' parameter formulas: 2·dim, 0 or dim."""
    return {"layer_norm": 2 * dim, "layer_norm_no_affine": 0, "rms_norm": dim}[norm_type]


def fused_kept(dim: int, sublayers: int, *, first: int, state: int, small: int) -> int:
    """Bytes per token that kernels keep, with what norm and transform of every branch read. `first` is the size of the
    first state as it lies in memory, `state` that of the others, `small` what a boundary keeps besides."""
    states = first + (sublayers - 1) // STATES_PER_KEPT * state
    return 4 * (states + sublayers * (2 * dim + dim + small))  # dim: the output


def divisors(dim: int) -> str:
    return ", ".join(str(m) for m in range(1, dim + 1) if dim % m == 0)


def not_whole_blocks(name: str, sublayers: int) -> tuple[str, str] | None:
    """The problem of a type that wires whole blocks with a depth that is none."""
    if sublayers % BRANCHES_PER_BLOCK:
        return "type", f"'{name}' wires blocks of {BRANCHES_PER_BLOCK} sub-layers, and there are {sublayers} sub-layers"
    return None
