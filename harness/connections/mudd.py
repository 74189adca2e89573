"""MUDDFormer: multiway dynamic dense connections (arXiv 2502.12170).

Axes: B batch, T time, D width, C ways, J states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.connections.base import Branch, Connections, NormedBranch, held, inputs_of, inverse_rms, working_dtype
from harness.connections.residual import in_blocks
from harness.connections.settings.mudd import MUDDSettings

EPS = 1e-6
"""In the norm before the prediction, as in the authors' code."""


class _Average(torch.autograd.Function):
    """strengths (B, T, C, J) times the J states, (B, T, D) each: (B, T, C, D).

    As one product it wants the states side by side. They are copied there for the moment and, unlike in a plain
    product, not kept for the backward pass, or every block would keep all earlier states once more.
    """

    @staticmethod
    def forward(ctx: Any, strengths_BTCJ: Tensor, *states: Tensor) -> Tensor:
        ctx.save_for_backward(strengths_BTCJ, *states)
        return strengths_BTCJ @ torch.stack(states, dim=-2)

    @staticmethod
    def backward(ctx: Any, grad_BTCD: Tensor) -> Any:
        strengths_BTCJ, *states = ctx.saved_tensors
        with torch.autocast(grad_BTCD.device.type, enabled=False):
            grad_BTJD = strengths_BTCJ.transpose(-1, -2) @ grad_BTCD
            return grad_BTCD @ torch.stack(states, dim=-1), *grad_BTJD.unbind(-2)


class DepthAggregation(nn.Module):
    """The averages after one block (Eq. 5-6, 8), C ways over the J states X_0 .. X_{J-1} that exist by then:

        A = GELU(RMS(X_{J-1}) w1) w2 + static        way_c = sum_j A[c, j] X_j

    A (C, J) is signed and unbounded, and predicted from the newest state alone. `w1` (D, H) is drawn from N(0, 1/D),
    `w2` (H, H) is 0 and `static` (C, J) is 1 at the newest state and 0 elsewhere (section 3), so at first every way is
    the newest state, exactly. H = C·J, the way the slow index, and the last block has the same rule: the authors' code
    rounds H up to a multiple of 64 and has a wider one there. RMS has no weight; GELU is the exact one.

    `norm_k` and `norm_v` are the norms of the next block's key and value inputs; its query input has the branch's own.
    """

    def __init__(self, dim: int, ways: int, states: int):
        super().__init__()
        self.ways, hidden = ways, ways * states
        self.w1 = nn.Parameter(torch.randn(dim, hidden) * dim**-0.5)
        self.w2 = nn.Parameter(torch.zeros(hidden, hidden))
        self.static = nn.Parameter(torch.eye(states)[-1].repeat(ways, 1))
        if ways > 1:
            self.norm_k = nn.RMSNorm(dim, eps=1e-5)
            self.norm_v = nn.RMSNorm(dim, eps=1e-5)

    def forward(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """The C ways, (B, T, D) each; all in the working dtype."""
        newest_BTD = states[-1]
        hidden = F.gelu((newest_BTD @ self.w1) * inverse_rms(newest_BTD, EPS))
        strengths_BTCJ = held((hidden @ self.w2).unflatten(-1, (self.ways, -1)) + self.static)
        ways_BTCD: Tensor = _Average.apply(strengths_BTCJ, *states)  # type: ignore[no-untyped-call]
        return ways_BTCD.unbind(-2)


class MUDDConnections(Connections):
    """A network of K blocks with X_0 the embedding (Eq. 7-8). Block 0 is the plain pre-norm one. After every block the
    ways q, k, v, r are averaged anew over all states, X_0 and the outputs of the blocks so far, and the next block is

        a = attention(norm(X^q), norm_k(X^k), norm_v(X^v)) + X^r        X = a + feedforward(a)

    with separate norms for the three inputs, as in the authors' code. After the last block only r is made: the output.

    Initially it is the pre-norm residual, exactly. `w1` and `w2` decay; `static` and the norms do not: the paper says
    nothing, and decay of the one-hot `static` would pull the stream to 0. The paper's extras (norms before and after
    the averages for deep models, reallocated feed-forward widths) are not here.

    Raises TypeError where an attention branch does not take query, key and value.
    """

    decayed = frozenset({"w1", "w2"})
    silent = ("w1",)  # behind `w2`

    def __init__(self, settings: MUDDSettings, dim: int, sublayers: int):
        super().__init__()
        self.blocks = nn.ModuleList(DepthAggregation(dim, *size) for size in settings.sizes(sublayers))

    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        work = working_dtype(x_BTD)
        states = [x_BTD.to(work)]  # in the working dtype once: every later average reads them
        before: DepthAggregation | None = None
        ways: Sequence[Tensor] = ()
        for module, (attention, feedforward) in zip(self.blocks, in_blocks(branches), strict=True):
            if inputs_of(attention) != 3:
                raise TypeError(f"mudd needs attention branches that take query, key and value; {attention!r} does not")
            if before is None:
                a_BTD = x_BTD + attention(x_BTD)
            else:
                query, key, value, residual = ways
                with torch.autocast(x_BTD.device.type, enabled=False):
                    key, value = before.norm_k(key), before.norm_v(value)
                branch = cast(NormedBranch, attention)
                inputs = (branch.norm(query.to(x_BTD.dtype)), key.to(x_BTD.dtype), value.to(x_BTD.dtype))
                a_BTD = residual.to(x_BTD.dtype) + branch.transform(*inputs)
            newest_BTD = a_BTD + feedforward(a_BTD)
            states.append(newest_BTD.to(work))
            before = cast(DepthAggregation, module)
            with torch.autocast(x_BTD.device.type, enabled=False):
                ways = before(states)
        return ways[-1].to(x_BTD.dtype) if ways else x_BTD
