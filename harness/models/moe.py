"""A mixture of experts in the place of a feed-forward (OLMoE, arXiv 2409.02060): dropless, every token to its K best.

Axes: B batch, T time, D width, N tokens (B · T), E experts, K experts of a token, P pairs of a token and one of its
experts (N · K, a token's pairs together), S the same pairs sorted by expert, H hidden width of an expert.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.models.layers import DecoderBranch
from harness.models.settings import DecoderSettings


class MixtureOfExperts(DecoderBranch):
    """y = sum over the K likeliest experts e of p_e · SwiGLU_e(x), p the softmax of `router` over all experts; the K
    probabilities are not normalised again. Dropout acts on the output.

    The router works in fp32 at least, and no token is dropped, whatever the loads. `losses` holds, after a forward
    pass in training mode, its (balance, z), unweighted and with their graph; whoever takes them sets it to None.
    The tallies are sums over all forward passes since `reset`; they belong in no checkpoint.
    """

    counts: Tensor
    probabilities: Tensor
    squares: Tensor

    def __init__(self, settings: DecoderSettings):
        super().__init__(settings)
        assert settings.experts is not None
        self.experts, self.chosen = settings.experts, settings.experts_per_token
        width, hidden = settings.width, settings.hidden
        self.router = nn.Linear(width, self.experts, bias=False)
        self.gate_up = nn.Parameter(torch.empty(self.experts, width, 2 * hidden))
        self.out = nn.Parameter(torch.empty(self.experts, hidden, width))
        self.losses: tuple[Tensor, Tensor] | None = None
        for name in ("counts", "probabilities", "squares"):
            self.register_buffer(name, None, persistent=False)
        self.reset()

    def transform(self, x_BTD: Tensor, **_: Any) -> Tensor:
        """Token by token: what attention is given is none of its business."""
        x_ND = x_BTD.flatten(0, -2)
        weights_NK, experts_NK, counts_E = self.route(x_ND)
        device = x_BTD.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BTD.dtype
        order_S = experts_NK.flatten().argsort(stable=True)
        position_P = torch.empty_like(order_S).scatter_(0, order_S, torch.arange(len(order_S), device=order_S.device))
        sorted_SD: Tensor = _Spread.apply(x_ND.to(dtype), order_S, position_P, self.chosen)  # type: ignore[no-untyped-call]
        gate_SH, up_SH = grouped_product(sorted_SD, self.gate_up.to(dtype), counts_E).chunk(2, dim=-1)
        # The product is linear: weighting what goes in, not what comes out, leaves a plain sum for the end.
        weights_S = weights_NK.flatten()[order_S].to(dtype)
        hidden_SH = F.silu(gate_SH) * up_SH * weights_S.unsqueeze(-1)
        out_SD = grouped_product(hidden_SH, self.out.to(dtype), counts_E)
        out_ND: Tensor = _Gather.apply(out_SD, order_S, position_P, self.chosen)  # type: ignore[no-untyped-call]
        return self.finish(out_ND.view(x_BTD.shape))

    def route(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and experts, (N, K) each, and how many tokens every expert gets, (E,); keeps losses and tallies."""
        work = torch.promote_types(x_ND.dtype, torch.float32)
        with torch.autocast(x_ND.device.type, enabled=False):
            logits_NE = F.linear(x_ND.to(work), self.router.weight.to(work))
            chances_NE = logits_NE.softmax(dim=-1)
            # By logits: small probabilities may all be 0 in fp32, and then the choice among them would be any.
            experts_NK = logits_NE.topk(self.chosen, dim=-1).indices
            weights_NK = chances_NE.gather(-1, experts_NK)
            counts_E = torch.zeros_like(self.counts).scatter_add_(
                0, experts_NK.flatten(), torch.ones_like(experts_NK).flatten()
            )
            square_N = logits_NE.logsumexp(dim=-1).square()
            self.losses = (balance(counts_E, chances_NE.mean(dim=0)), square_N.mean()) if self.training else None
        # Not in place: what a pass in inference mode has made may not be written to outside.
        self.counts = self.counts + counts_E
        self.probabilities = self.probabilities + chances_NE.detach().sum(dim=0, dtype=torch.float64)
        self.squares = self.squares + square_N.detach().sum(dtype=torch.float64)
        return weights_NK, experts_NK, counts_E

    def reset(self) -> None:
        """Begin the tallies anew, on the device of the weights."""
        device = self.router.weight.device
        self.counts = torch.zeros(self.experts, dtype=torch.int64, device=device)
        self.probabilities = torch.zeros(self.experts, dtype=torch.float64, device=device)
        self.squares = torch.zeros((), dtype=torch.float64, device=device)


class _Spread(torch.autograd.Function):
    """(N, D) to (S, D): a row for every pair. Its backward pass is a sum in a fixed order, where indexing adds up the
    K gradients of a token in whatever order a GPU finds them."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, order_S: Tensor, position_P: Tensor, chosen: int) -> Tensor:
        ctx.save_for_backward(order_S, position_P)
        ctx.chosen = chosen
        return x_ND[order_S // chosen]

    @staticmethod
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor, None, None, None]:
        return _Gather.apply(grad_SD, *ctx.saved_tensors, ctx.chosen), None, None, None  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """(S, D) to (N, D): the sum of every token's K rows, in fp32 at least. The transpose of `_Spread`."""

    @staticmethod
    def forward(ctx: Any, out_SD: Tensor, order_S: Tensor, position_P: Tensor, chosen: int) -> Tensor:
        ctx.save_for_backward(order_S, position_P)
        ctx.chosen = chosen
        work = torch.promote_types(out_SD.dtype, torch.float32)
        return out_SD[position_P].unflatten(0, (-1, chosen)).sum(dim=1, dtype=work).to(out_SD.dtype)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, None, None, None]:
        return _Spread.apply(grad_ND, *ctx.saved_tensors, ctx.chosen), None, None, None  # type: ignore[no-untyped-call]


def grouped_product(x_SD: Tensor, weights_EDH: Tensor, counts_E: Tensor) -> Tensor:
    """(S, H): the first counts[0] rows times the first matrix, the next counts[1] times the second, and so on."""
    if x_SD.dtype != torch.float64:
        return F.grouped_mm(x_SD, weights_EDH, offs=counts_E.cumsum(0, dtype=torch.int32))
    # Torch has no grouped product of float64; without it nothing could be held against a float64 reference.
    parts = x_SD.split(counts_E.tolist())
    return torch.cat([part_SD @ weights_DH for part_SD, weights_DH in zip(parts, weights_EDH, strict=True)])


def balance(counts_E: Tensor, chances_E: Tensor) -> Tensor:
    """E · sum over experts of f_e · P_e, a scalar (Switch Transformer, arXiv 2101.03961, Eq. 4-6; for K choices
    OLMoE, arXiv 2409.02060): f_e is the share of all choices that fell on e and has no gradient, P_e the mean
    probability of e. 1 where the load is even, E / K where all tokens choose the same K with certainty."""
    share_E = (counts_E / counts_E.sum()).to(chances_E.dtype)
    return len(counts_E) * (share_E * chances_E).sum()


def readings(modules: Sequence[MixtureOfExperts]) -> dict[str, float]:
    """What the tallies say, all passes taken together, and nothing where no token was seen.

    `router/balance` and `router/z` are means over layers, unweighted. `router/max_load` is the largest share of one
    expert in one layer, times E: 1 is even. `router/entropy` is the mean over layers of the shares' entropy / log E,
    `router/unused` the share of experts, over all layers, that got no token.
    """
    loads_LE = expert_loads(modules)
    if loads_LE is None:
        return {}
    experts, chosen = modules[0].experts, modules[0].chosen
    tokens = modules[0].counts.sum() / chosen
    chances_LE = torch.stack([module.probabilities for module in modules]) / tokens
    entropies_L = -torch.special.xlogy(loads_LE, loads_LE).sum(dim=1)
    values = {
        "router/balance": experts * (loads_LE * chances_LE).sum(dim=1).mean(),
        "router/z": torch.stack([module.squares for module in modules]).mean() / tokens,
        "router/max_load": experts * loads_LE.max(),
        "router/entropy": entropies_L.mean() / math.log(experts),
        "router/unused": (loads_LE == 0).double().mean(),
    }
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))


def expert_loads(modules: Sequence[MixtureOfExperts]) -> Tensor | None:
    """(layers, E), float64: the share of a layer's choices that fell on every expert. None where no token was seen."""
    if not modules:
        return None
    counts_LE = torch.stack([module.counts for module in modules]).double()
    return counts_LE / counts_LE.sum(dim=1, keepdim=True) if counts_LE.any() else None
