"""The decoder: token ids in, logits out, and between them branches wired by whatever connection it is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.connections.settings import ConnectionSettings
from harness.models.layers import Attention, FeedForward, RotaryPositions
from harness.models.network import Network
from harness.models.settings import DecoderSettings


class Decoder(Network):
    """Token ids (B, T) to logits (B, T, V); T at most `settings.context`."""

    settings: DecoderSettings

    def __init__(
        self,
        settings: DecoderSettings,
        connection: ConnectionSettings,
        vocabulary: int,
        *,
        backbone_seed: int = 0,
        connection_seed: int = 0,
    ):
        super().__init__(settings)
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, settings.width)
        rotary = RotaryPositions(settings.head_width, settings.context, settings.rope_theta)
        self.branches = nn.ModuleList()
        for _ in range(settings.layers):
            self.branches.extend([Attention(settings, rotary), FeedForward(settings)])
        self.norm = nn.RMSNorm(settings.width, eps=settings.norm_eps)
        self._complete(connection, backbone_seed, connection_seed)

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """(B, T, D): the state before the final norm."""
        return self.wired(self.embedding(tokens_BT))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return F.linear(self.norm(self.hidden(tokens_BT)), self.embedding.weight)


def token_losses(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Negative log-likelihood in nats of every target, (B, T), computed in fp32 at least."""
    work = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
    return F.cross_entropy(work.flatten(0, -2), targets_BT.flatten(), reduction="none").view_as(targets_BT)
