"""Keys and values of the tokens so far, so that one more token costs one more token. Axes: B batch, T time (new
tokens), S slots, H heads, W width of a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KeyValues:
    """What every attention of a model has seen of a batch. A token's slot is its position.

    Rows may be of unlike length: padding on the right is written like any token, lies beyond what its row sees, and is
    written over by the tokens that follow. `slots` is the most tokens that a row gets.
    """

    def __init__(self, slots: int):
        self.slots, self.used = slots, 0
        self._kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._begins_BS: Tensor | None = None

    def see(self, positions_BT: Tensor, begins_BT: Tensor | None) -> Tensor:
        """(B, 1, T, S), boolean: which slots the new tokens see, which are those up to their own; where documents begin
        (`begins_BT`), those of their own document. To be called once for the new tokens, before `extend`. Raises
        ValueError for a position beyond the slots."""
        self.used = max(self.used, int(positions_BT.max()) + 1)
        if self.used > self.slots:
            raise ValueError(f"position {self.used - 1} is beyond the {self.slots} slots")
        slots_S = torch.arange(self.used, device=positions_BT.device)
        seen_BTS = slots_S <= positions_BT.unsqueeze(-1)
        if begins_BT is not None:
            if self._begins_BS is None:
                self._begins_BS = begins_BT.new_zeros(len(begins_BT), self.slots)
            self._begins_BS.scatter_(1, positions_BT, begins_BT)
            document_BS = self._begins_BS[:, : self.used].cumsum(dim=-1)
            seen_BTS &= document_BS.unsqueeze(1) == document_BS.gather(1, positions_BT).unsqueeze(-1)
        return seen_BTS.unsqueeze(1)

    def extend(self, owner: nn.Module, k_BHTW: Tensor, v_BHTW: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, S, W) of `owner` with those of the new tokens in their slots."""
        if owner not in self._kept:
            B, H, _, W = k_BHTW.shape
            self._kept[owner] = k_BHTW.new_zeros(B, H, self.slots, W), v_BHTW.new_zeros(B, H, self.slots, W)
        slots_BHTW = positions_BT[:, None, :, None].expand_as(k_BHTW)
        kept = self._kept[owner]
        for all_BHSW, new_BHTW in zip(kept, (k_BHTW, v_BHTW), strict=True):
            all_BHSW.scatter_(2, slots_BHTW, new_BHTW)
        return kept[0][:, :, : self.used], kept[1][:, :, : self.used]

    def keep(self, rows: Tensor) -> None:
        """Only these rows of the batch go on."""
        self._kept = {owner: (k[rows], v[rows]) for owner, (k, v) in self._kept.items()}
        if self._begins_BS is not None:
            self._begins_BS = self._begins_BS[rows]
