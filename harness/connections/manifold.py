"""Hyper-Connections with constrained mixing: mHC (arXiv 2512.24880), Identity-HC and mHC-lite (arXiv 2601.05732).

Axes: B batch, T time, N streams, D width. With X the (N, D) state of one token and F a sub-layer, pre-norm included

    X_new = H_res X + H_postᵀ F(H_pre X)                                             (mHC Eq. 3)

so the new stream i is sum_j res[i, j] x_j + post_i F(sum_j pre_j x_j). All coefficients are predicted from all streams
at once, x̂ = RMSNorm(vec X) over the N · D entries, stream after stream, without weight (Eq. 7-8)

    raw = scale ∘ (x̂ phi) + bias        H_pre = sigmoid(raw_pre)        H_post = 2 sigmoid(raw_post)

and H_res is what the three differ in. Unlike HC there is no tanh, and A_r is not transposed: HC's A_r is H_resᵀ.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness.connections.base import (
    Branch,
    Matrices,
    SublayerConnection,
    inverse_rms,
    replicate,
    sum_streams,
    working_dtype,
    write,
)
from harness.connections.coefficients import SCALE_AT_START, check_sizes, stacked, transposed_product
from harness.connections.kernels.form import Form, Mixer, Operands
from harness.connections.kernels.stack import FusableConnections, read_all
from harness.connections.sinkhorn import sinkhorn

EPS = 1e-6
"""In the norm of the whole state. The paper's kernel has none (Eq. 15-16), the code of the models that ship it this."""


class StreamConnection(SublayerConnection):
    """What the three have in common. `phi` (N·D, C) is zero at first, `bias` (C,) says where all starts and `scale`
    is one number of 0.01 (the paper's Table 5) for each kind of coefficient; columns are [pre | post | res].

    Initially post is 1 for every stream (bias 0) and res has row sums 1, so equal streams stay equal and behave as the
    pre-norm residual, whatever pre is: the sub-layer's own norm takes out the factor sum(pre), but for its epsilon.
    pre favours the home stream `layer_id` mod n (bias 3, else -3). With equal biases nothing would ever tell the
    streams apart: the symmetry that HC's stagger breaks.

    The arXiv paper gives no initial phi and bias. These are the values that PaddleFleet's code attributes to appendix
    A.6 of the ICML version (the only witness that we found). Not decayed: bias and scale, on which the paper is silent.
    """

    def __init__(self, dim: int, rate: int, layer_id: int, mixing: Tensor | None):
        super().__init__()
        check_sizes(dim, rate, layer_id)
        self.dim, self.rate, self.layer_id = dim, rate, layer_id
        pre = torch.full((rate,), -3.0)
        pre[layer_id % rate] = 3.0
        parts = [pre, torch.zeros(rate)] + ([mixing.flatten()] if mixing is not None else [])
        self.sizes = [len(part) for part in parts]
        self.phi = nn.Parameter(torch.zeros(rate * dim, sum(self.sizes)))
        self.bias = nn.Parameter(torch.cat(parts))
        self.scale = nn.Parameter(torch.full((len(parts),), SCALE_AT_START))

    @abstractmethod
    def mixing(self, *raw_BTK: Tensor) -> Tensor:
        """H_res, (B or 1, T or 1, N, N), from the raw numbers for it, if it has any."""

    def coefficients(self, h_BTND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """H_pre (B, T, N), H_post (B, T, N) and H_res (B or 1, T or 1, N, N). `h` is in the working dtype."""
        flat = h_BTND.flatten(-2)
        projected = (flat @ self.phi) * inverse_rms(flat, EPS)
        scale = torch.cat([s.expand(size) for s, size in zip(self.scale, self.sizes, strict=True)])
        pre, post, *res = torch.addcmul(self.bias, projected, scale).split(self.sizes, dim=-1)
        return torch.sigmoid(pre), 2 * torch.sigmoid(post), self.mixing(*res)

    def width_connection(self, h_BTND: Tensor) -> tuple[Tensor, Tensor]:
        """`mix` (B, T, N+1, D), row 0 the layer input and the rest H_res X; `beta` (B, T, N), which is H_post."""
        with torch.autocast(h_BTND.device.type, enabled=False):
            work = h_BTND.to(working_dtype(h_BTND))
            pre, post, res = self.coefficients(work)
            # One product for both: the state is read once.
            alpha = torch.cat([pre.unsqueeze(-2), res.expand(*pre.shape, self.rate)], dim=-2)
            return transposed_product(alpha.transpose(-1, -2), work).to(h_BTND.dtype), post

    def layer_input(self, mix: Tensor) -> Tensor:
        """(B, T, D), a copy: of a view, the norm behind it would keep all of `mix` for the backward pass."""
        return mix[..., 0, :].clone()

    def depth_connection(self, mix: Tensor, out_BTD: Tensor, beta: Tensor) -> Tensor:
        """X_new[i] = beta[i] · out + (H_res X)[i], (B, T, N, D)."""
        return write(mix[..., 1:, :], out_BTD, beta)

    def matrices(self, h_BTND: Tensor) -> Matrices:
        pre, post, res = self.coefficients(h_BTND)
        return Matrices(pre.unsqueeze(-1), res.transpose(-1, -2), post.unsqueeze(-2))


class ManifoldConnection(StreamConnection):
    """mHC around one sub-layer: H_res = Sinkhorn(raw as (N, N), row-major), nearly doubly stochastic (Eq. 8-9).

        mix, beta = c.width_connection(h)                       # h (B, T, N, D), mix (B, T, N+1, D)
        h = c.depth_connection(mix, sublayer(c.layer_input(mix)), beta)

    The bias of res starts at 3 on the diagonal and -3 elsewhere: with N = 4 the diagonal of H_res is 0.9926.

    Raises ValueError for a rate or width below 1 or a negative `layer_id`, as the two others do.
    """

    def __init__(self, dim: int, rate: int, layer_id: int, iterations: int = 20):
        super().__init__(dim, rate, layer_id, 6 * torch.eye(rate) - 3)
        self.iterations = iterations

    def mixing(self, *raw_BTK: Tensor) -> Tensor:
        return sinkhorn(raw_BTK[0].unflatten(-1, (self.rate, self.rate)), self.iterations)


class IdentityConnection(StreamConnection):
    """Identity-HC around one sub-layer: H_res = I, so `phi` has no columns for it and `scale` two entries."""

    identity: Tensor

    def __init__(self, dim: int, rate: int, layer_id: int):
        super().__init__(dim, rate, layer_id, None)
        self.register_buffer("identity", torch.eye(rate), persistent=False)

    def mixing(self, *raw_BTK: Tensor) -> Tensor:
        return self.identity[None, None]

    def connect(self, h: Tensor, branch: Branch) -> Tensor:
        """What the parts do together, but the state is carried as it lies: no product with I, no copy."""
        with torch.autocast(h.device.type, enabled=False):
            work = h.to(working_dtype(h))
            pre, post, _ = self.coefficients(work)
            read_BTD = (pre.unsqueeze(-1) * work).sum(dim=-2).to(h.dtype)
        return write(h, branch(read_BTD), post)


class PermutationConnection(StreamConnection):
    """mHC-lite around one sub-layer: H_res = sum_s w_s P_s with w = softmax(raw) over all N! permutation matrices.

    In lexicographic order, P_s[i, s(i)] = 1, so the first is the identity; its bias starts at 0, the others' at -8: for
    N = 4 its weight is 0.9923. Rows and columns of H_res sum to 1 whatever the weights. Two differences from the
    authors' code: there x̂ has a learned gain, and bias of pre and post is 1 for the home stream and -1 elsewhere,
    which is not pre-norm at initialisation; here both are as in mHC.
    """

    permutations: Tensor

    def __init__(self, dim: int, rate: int, layer_id: int):
        orders = list(itertools.permutations(range(rate)))
        bias = torch.full((len(orders),), -8.0)
        bias[0] = 0.0
        super().__init__(dim, rate, layer_id, bias)
        self.register_buffer("permutations", torch.eye(rate)[torch.tensor(orders)].flatten(1), persistent=False)

    def mixing(self, *raw_BTK: Tensor) -> Tensor:
        weights_BTK = torch.softmax(raw_BTK[0], dim=-1)
        return (weights_BTK @ self.permutations).unflatten(-1, (self.rate, self.rate))


class ManifoldConnections(FusableConnections):
    """A network of any of the three: n copies of the embedding in, the sum of the streams out, as in HC. The arXiv
    paper describes neither end. Means and learned weights are in use too; to a final norm sum and mean are the same."""

    decayed = frozenset({"phi"})
    silent = ("scale",)  # behind `phi`

    def __init__(self, modules: Sequence[StreamConnection], rate: int):
        super().__init__(modules)
        self.rate = rate

    def forms(self) -> tuple[Form, Form] | None:
        first = self.sublayers[0]
        mixer: Mixer
        if isinstance(first, ManifoldConnection):
            mixer, iterations = "sinkhorn", first.iterations
        elif isinstance(first, IdentityConnection):
            mixer, iterations = "identity", 0
        else:
            return None
        sizes = self.rate, 1, first.dim
        return Form(*sizes, mixer, eps=EPS, iterations=iterations), Form(*sizes, "given")

    def enter(self, x_BTD: Tensor) -> Tensor:
        return replicate(x_BTD, self.rate)

    def operands(self) -> list[Operands]:
        modules, first = list(self.sublayers), cast(StreamConnection, self.sublayers[0])
        kinds = zip(stacked(modules, "scale").unsqueeze(-1).unbind(dim=1), first.sizes, strict=True)
        scale_LC = torch.cat([scale_L1.expand(-1, size) for scale_L1, size in kinds], dim=1)
        phi_LCK, bias_LC = stacked(modules, "phi").transpose(1, 2).contiguous(), stacked(modules, "bias")
        every = zip(bias_LC, phi_LCK, scale_LC, strict=True)
        return [Operands(bias, phi, None, scale) for bias, phi, scale in every]

    def exit_read(self, like: Tensor) -> Tensor:
        return read_all(self.rate, like)

    def expand(self, x_BTD: Tensor) -> Tensor:
        # Copies, not views: the sub-layers flatten the state, which would copy the first one besides.
        return replicate(x_BTD, self.rate).contiguous()

    def collapse(self, h_BTND: Tensor) -> Tensor:
        return sum_streams(h_BTND)
