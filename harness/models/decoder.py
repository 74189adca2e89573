"""The decoder: token ids in, logits out, and between them branches wired by whatever connection it is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.connections.settings import ConnectionSettings
from harness.models import moe
from harness.models.cache import KeyValues
from harness.models.layers import Attention, Branch, FeedForward, RotaryPositions, make_norm
from harness.models.moe import MixtureOfExperts
from harness.models.network import Network
from harness.models.settings import DecoderSettings


class Decoder(Network):
    """Token ids (B, T) to logits (B, T, V); T at most `settings.context`.

    `boundary` is the token that every document begins with; without a document mask nothing asks for it. Raises
    ValueError where there is a document mask and no boundary.
    """

    settings: DecoderSettings

    def __init__(
        self,
        settings: DecoderSettings,
        connection: ConnectionSettings,
        vocabulary: int,
        *,
        boundary: int | None = None,
        backbone_seed: int = 0,
        connection_seed: int = 0,
    ):
        super().__init__(settings)
        if settings.document_mask and boundary is None:
            raise ValueError("document_mask: no token stands between documents; give `boundary`")
        self.vocabulary = vocabulary
        self.boundary = boundary if settings.document_mask else None
        self.embedding = nn.Embedding(vocabulary, settings.width)
        rotary = RotaryPositions(settings.head_width, settings.context, settings.rope_theta)
        self.branches = nn.ModuleList()
        for _ in range(settings.layers):
            second: Branch = MixtureOfExperts(settings) if settings.experts else FeedForward(settings)
            self.branches.extend([Attention(settings, rotary), second])
        self.norm = make_norm(settings)
        if not settings.tied:
            self.unembedding = nn.Linear(settings.width, vocabulary, bias=False)
        self._complete(connection, backbone_seed, connection_seed)

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """(B, T, D): the state before the final norm."""
        x_BTD = self.embedding(tokens_BT)
        begins_BT = None if self.boundary is None else tokens_BT == self.boundary
        if positions_BT is None:
            return self.wired(x_BTD) if begins_BT is None else self.wired(x_BTD, mask=document_mask(begins_BT))
        if cache is not None:
            mask = cache.see(positions_BT, begins_BT)
        elif mask is not None and begins_BT is not None:
            mask = own_document(mask, begins_BT)
        return self.wired(x_BTD, mask=mask, positions=positions_BT, cache=cache)

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValues | None = None,
        wanted_BT: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V), or (K, V) of the K tokens that are `wanted_BT`.

        By default tokens stand one after another and see what is not later. With `positions_BT` they stand elsewhere,
        and see what the `mask` says, boolean and (B, 1, T, T), their own place among it; or, with a `cache`, all of
        their row up to their position, the tokens of earlier calls among it. A document mask holds besides.
        """
        output = self.embedding if self.settings.tied else self.unembedding
        h = self.hidden(tokens_BT, positions_BT, mask, cache)
        return F.linear(self.norm(h if wanted_BT is None else h[wanted_BT]), output.weight)

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Weighted means over layers of the losses of the last forward pass, which must have been in training mode.
        They are handed out once: kept, they would keep the pass's graph."""
        losses = [module.losses for module in self._mixtures()]
        for module in self._mixtures():
            module.losses = None
        if not losses or None in losses:
            return {}
        balance, z = (torch.stack(terms).mean() for terms in zip(*losses, strict=True))
        return {"balance": self.settings.balance_loss * balance, "router_z": self.settings.router_z_loss * z}

    def readings(self) -> dict[str, float]:
        """Of the experts, in training and evaluation alike (`moe.readings`)."""
        return moe.readings(self._mixtures())

    def reset_readings(self) -> None:
        for module in self._mixtures():
            module.reset()

    def expert_loads(self) -> Tensor | None:
        """(layers, E): the experts' shares of the choices since `reset_readings`. None without experts or tokens."""
        return moe.expert_loads(self._mixtures())

    def _mixtures(self) -> list[MixtureOfExperts]:
        return [branch for branch in self.branches if isinstance(branch, MixtureOfExperts)]


def document_mask(begins_BT: Tensor) -> Tensor:
    """(B, 1, T, T), boolean: whether a token (third axis) sees another (fourth), which is to be in its own document
    and not later. `begins_BT` says where documents begin; what is before the first is a document too."""
    document_BT = begins_BT.cumsum(dim=-1)
    same_BTT = document_BT.unsqueeze(-1) == document_BT.unsqueeze(-2)
    return same_BTT.tril().unsqueeze(1)


def own_document(mask: Tensor, begins_BT: Tensor) -> Tensor:
    """`mask`, (B, 1, T, T), without what lies in another document, where all that a token sees is on one path to it:
    as many documents have begun on the way to either."""
    document_BT = (mask.squeeze(1) & begins_BT.unsqueeze(1)).sum(dim=-1)
    return mask & (document_BT.unsqueeze(-1) == document_BT.unsqueeze(-2)).unsqueeze(1)


def token_losses(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Negative log-likelihood in nats of every target, (B, T), computed in fp32 at least."""
    work = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
    return F.cross_entropy(work.flatten(0, -2), targets_BT.flatten(), reduction="none").view_as(targets_BT)
