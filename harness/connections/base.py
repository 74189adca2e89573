"""The one interface behind which every connection type stands.

A `Connections` module owns the whole stack of wiring of one network: it expands the input to its state, runs the
branches in order and collapses the state at the end. A decoder block never mentions streams.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast, get_args

import torch
from torch import Tensor, nn

from harness.connections.settings.base import NormType

Branch = Callable[..., Tensor]
"""(B, T, D) -> (B, T, D): one sub-layer with its own pre-norm inside. A branch whose `inputs` is 3 (attention) may also
be called with separate inputs for query, key and value; every other branch takes one."""


class NormedBranch(Protocol):
    """What types ask of a branch that put the norm elsewhere: branch(x) is transform(norm(x))."""

    norm: Callable[[Tensor], Tensor]
    transform: Callable[..., Tensor]


def inputs_of(branch: Branch) -> int:
    """How many separate inputs the branch can take: 3 (query, key, value) or 1."""
    return int(getattr(branch, "inputs", 1))


class Connections(nn.Module, ABC):
    """How the branches of a network are wired.

    `decayed` names the parameters (by their last name component) that take weight decay; all others do not. It is a
    rule by name because the rule by shape is wrong here: `static_alpha` is a matrix that must not decay,
    `dynamic_beta_fn` is a vector that must (HC, arXiv 2409.19606, section 4).
    """

    decayed: frozenset[str] = frozenset()
    silent: tuple[str, ...] = ()
    """Endings of the names of parameters whose gradient is exactly zero at step 0, being behind a factor of zero."""

    @abstractmethod
    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        """(B, T, D) embedding in, (B, T, D) state before the final norm out. `branches` alternate: attention,
        feed-forward."""

    def decays(self, name: str) -> bool:
        return name.rsplit(".", 1)[-1] in self.decayed


class Matrices(NamedTuple):
    """What one sub-layer does to R rows whose width is 1/P of its own, token by token: part p of its input is
    sum_i read[i, p] row_i, and the new row j is sum_i carry[i, j] row_i + sum_p write[p, j] (part p of its output).
    Leading axes are (B, T), or (1, 1) where all tokens have the same."""

    read: Tensor
    """(..., R, P)"""
    carry: Tensor
    """(..., R, R)"""
    write: Tensor
    """(..., P, R)"""


class SublayerConnection(nn.Module, ABC):
    """The connection around one sub-layer, in the papers' own terms. `h` is the state, `mix` what width makes of it."""

    @abstractmethod
    def width_connection(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(mix, beta): the layer input and the carried state in one tensor, and the weights of the output."""

    @abstractmethod
    def layer_input(self, mix: Tensor) -> Tensor:
        """(B, T, D): the part of `mix` that the sub-layer reads."""

    @abstractmethod
    def depth_connection(self, mix: Tensor, out_BTD: Tensor, beta: Tensor) -> Tensor:
        """The new state: the carried part of `mix` with the sub-layer's output added."""

    def matrices(self, h: Tensor) -> Matrices | None:
        """What the connection does with the state `h`, (B, T, R, W) in the working dtype, for diagnosis; None where a
        type does not say."""
        return None

    def connect(self, h: Tensor, branch: Branch) -> Tensor:
        """The state after one sub-layer."""
        mix, beta = self.width_connection(h)
        return self.depth_connection(mix, branch(self.layer_input(mix)), beta)


class SublayerConnections(Connections):
    """A stack of one `SublayerConnection` per sub-layer; subclasses say how the state is made and unmade."""

    def __init__(self, modules: Sequence[SublayerConnection]):
        super().__init__()
        self.sublayers = nn.ModuleList(modules)

    @abstractmethod
    def expand(self, x_BTD: Tensor) -> Tensor:
        """The state from the embedding."""

    @abstractmethod
    def collapse(self, h: Tensor) -> Tensor:
        """(B, T, D) from the last state."""

    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        h = self.expand(x_BTD)
        for module, branch in zip(self.sublayers, branches, strict=True):
            h = cast(SublayerConnection, module).connect(h, branch)
        return self.collapse(h)


_held: list[Tensor] | None = None


def held(strengths: Tensor) -> Tensor:
    """`strengths` that a state decides, on their way to what they weigh: a constant within `fixed_coefficients`."""
    if _held is None:
        return strengths
    _held.append(strengths.detach())
    return _held[-1]


@contextmanager
def fixed_coefficients() -> Iterator[list[Tensor]]:
    """Within it a network is linear in its embedding and its branches' outputs, as far as its type says which strengths
    depend on the state (`held`). Gives the list of those that were met."""
    global _held
    before, _held = _held, []
    try:
        yield _held
    finally:
        _held = before


def replicate(x_BTD: Tensor, rate: int) -> Tensor:
    """(B, T, N, D): `rate` equal streams, without a copy."""
    return x_BTD.unsqueeze(-2).expand(*x_BTD.shape[:-1], rate, x_BTD.shape[-1])


def sum_streams(h_BTND: Tensor) -> Tensor:
    """(B, T, D): the sum of the streams, added up in fp32 at least."""
    return h_BTND.sum(dim=-2, dtype=working_dtype(h_BTND)).to(h_BTND.dtype)


def write(carried_BTND: Tensor, out_BTD: Tensor, beta_BTN: Tensor) -> Tensor:
    """Every stream with beta[i] times the sub-layer's output added: an outer product, in fp32 at least."""
    work = working_dtype(carried_BTND)
    new = torch.addcmul(carried_BTND.to(work), beta_BTN.unsqueeze(-1).to(work), out_BTD.unsqueeze(-2).to(work))
    return new.to(carried_BTND.dtype)


def make_norm(norm_type: NormType, dim: int) -> nn.Module:
    """The norm before a dynamic projection, over the last axis of size `dim`. Raises ValueError for another type."""
    if norm_type not in get_args(NormType):
        raise ValueError(f"norm_type must be one of {', '.join(get_args(NormType))}; got {norm_type!r}")
    if norm_type == "rms_norm":
        return nn.RMSNorm(dim, eps=1e-5)
    return nn.LayerNorm(dim, elementwise_affine=norm_type == "layer_norm")


def inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x²) + eps) over the last axis, which stays with size 1.

    A projection of the normed state is (x · r) W = (x W) · r. The second form keeps two numbers of a token for the
    backward pass, where the first keeps a normed copy of the state. `x` is in fp32 at least.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.rsqrt(norm * norm / x.shape[-1] + eps)


def working_dtype(h: Tensor) -> torch.dtype:
    """Coefficients and mixing are computed in fp32 at least, whatever the stream is kept in."""
    return torch.promote_types(h.dtype, torch.float32)
