"""Attention Residuals (AttnRes, arXiv 2603.15031), multi-head (MHAR, 2607.27230) and additive (Delta, 2605.18855).

Axes: B batch, T time, D width, H heads, W = D/H, P = B·T tokens, R reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.connections.base import Branch, Connections, held, inverse_rms, working_dtype
from harness.connections.settings.attention import AttentionResidualsSettings

EPS = 1e-6
"""In the norm of the keys; the paper names none."""


@dataclass(frozen=True)
class Source:
    """A tensor that later sub-layers read: its rows (P, H, W) in the working dtype and, by read, its logits (H, P)."""

    rows: Tensor
    logits: dict[int, Tensor]


class AttentionResiduals(Connections):
    """A network in which read r is a mixture, per token and head, of the sources s_i that exist by then (Eq. 2-4)

        weight_i = softmax_i(queries[r] · norms[r] ∘ RMS(s_i))        read_r = sum_i weight_i s_i

    `queries` (R, D) are free vectors, not predicted, and `norms` (R, D) the weights of a norm for each read. RMS is
    over the full width, and head h takes its contiguous slice of D/H of product and mixture alike. There is no factor
    1/sqrt(D) and no bias. One head is AttnRes, several are MHAR (section 2 there).

    full    o_k = branch_k(read_k(x_0, o_0 .. o_{k-1})), out = read_L(x_0, o_0 .. o_{L-1})
    block   the same with the sums of the outputs of ceil(L / blocks) sub-layers each in place of the outputs; the open
            block's partial sum is a source too (Eq. 5-6). The embedding is a source of its own for ever
    delta   h_{k+1} = h_k + o_k with o_k = branch_k(h_k + read_k(x_0, o_0 .. o_{k-1})), h_0 = x_0; out = h_L

    At first queries are 0, as the paper demands, and norms 1: every read is the mean of its sources, the pre-norm state
    over their number (delta: 1 + 1/number times that state). The norms behind take that factor out, but for their
    epsilon, so the network starts as the pre-norm residual. Neither decays. The first read has one source, which no
    query can weigh: read r has the rows r - 1, and R is one less than in the paper's count.

    Left open by the paper, and read in the code of models that ship it: the norms' weights, and the final read of
    "full". In delta the embedding is a source from the first sub-layer on, and nothing gates the read: the released
    code skips the first read.
    """

    silent = ("norms",)  # behind queries that are zero

    def __init__(self, settings: AttentionResidualsSettings, dim: int, sublayers: int):
        super().__init__()
        if dim % settings.heads:
            raise ValueError(f"{settings.heads} heads do not divide dim {dim}")
        self.heads, self.sublayers = settings.heads, sublayers
        self.delta, self.block_size = settings.variant == "delta", settings.block_size(sublayers)
        reads = len(settings.sources(sublayers)) - 1
        self.queries = nn.Parameter(torch.zeros(reads, dim))
        self.norms = nn.Parameter(torch.ones(reads, dim))

    def forward(self, x_BTD: Tensor, branches: Sequence[Branch]) -> Tensor:
        if len(branches) != self.sublayers:
            raise ValueError(f"made for {self.sublayers} branches, got {len(branches)}")
        # Query and weight multiply the key alike; what is left of the norm belongs to the source alone.
        queries_HRW = (self.queries * self.norms).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        return self._added(x_BTD, branches, queries_HRW) if self.delta else self._replaced(x_BTD, branches, queries_HRW)

    def _replaced(self, x_BTD: Tensor, branches: Sequence[Branch], queries_HRW: Tensor) -> Tensor:
        """full and block: what a sub-layer reads is the mixture. "full" has blocks of one sub-layer."""
        reads = self.sublayers + 1
        done = [self._source(x_BTD, queries_HRW, range(1, reads))]
        partial: list[Source] = []  # the open block's sum, if it has one
        sum_BTD: Tensor | None = None
        for k, branch in enumerate(branches):
            out_BTD = branch(self._read(k, done + partial, x_BTD))
            sum_BTD = out_BTD if sum_BTD is None else sum_BTD + out_BTD
            if (k + 1) % self.block_size == 0 or k + 1 == self.sublayers:
                done.append(self._source(sum_BTD, queries_HRW, range(k + 1, reads)))
                partial, sum_BTD = [], None
            else:
                partial = [self._source(sum_BTD, queries_HRW, range(k + 1, k + 2))]
        return self._read(self.sublayers, done, x_BTD)

    def _added(self, x_BTD: Tensor, branches: Sequence[Branch], queries_HRW: Tensor) -> Tensor:
        """delta: what a sub-layer reads is the residual stream and the mixture; only its output stays in the stream."""
        sources = [self._source(x_BTD, queries_HRW, range(1, self.sublayers))]
        h_BTD = x_BTD
        for k, branch in enumerate(branches):
            out_BTD = branch(h_BTD + self._read(k, sources, x_BTD))
            h_BTD = h_BTD + out_BTD
            if k + 1 < self.sublayers:
                sources.append(self._source(out_BTD, queries_HRW, range(k + 1, self.sublayers)))
        return h_BTD

    def _source(self, x_BTD: Tensor, queries_HRW: Tensor, reads: range) -> Source:
        """The source with its logits for `reads`, the sub-layers that will read it among others. They are computed
        here, all at once, so that it is normed once however often it is read."""
        with torch.autocast(x_BTD.device.type, enabled=False):
            rows_PHW = x_BTD.to(working_dtype(x_BTD)).reshape(-1, self.heads, x_BTD.shape[-1] // self.heads)
            if not reads:
                return Source(rows_PHW, {})
            factor_P = inverse_rms(rows_PHW.flatten(1), EPS).squeeze(-1)
            logits_HRP = queries_HRW[:, reads.start - 1 : reads.stop - 1] @ rows_PHW.permute(1, 2, 0) * factor_P
        return Source(rows_PHW, dict(zip(reads, logits_HRP.unbind(1), strict=True)))

    def _read(self, read: int, sources: Sequence[Source], like_BTD: Tensor) -> Tensor:
        """(B, T, D), in the dtype of `like`: the mixture that this read makes of the sources."""
        first, *others = sources
        mixed_PHW = first.rows
        if others:
            with torch.autocast(like_BTD.device.type, enabled=False):
                logits_IHP = torch.stack([source.logits[read] for source in sources])
                weights = [w_HP.T.unsqueeze(-1) for w_HP in held(logits_IHP.softmax(dim=0)).unbind(0)]
                # One by one: side by side, the sources would have to be copied, and kept, for every read anew.
                mixed_PHW = weights[0] * first.rows
                for weight_PH1, source in zip(weights[1:], others, strict=True):
                    mixed_PHW = torch.addcmul(mixed_PHW, weight_PH1, source.rows)
        return mixed_PHW.reshape(like_BTD.shape).to(like_BTD.dtype)
