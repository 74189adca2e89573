"""Greedy continuation of many prompts at a time, with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from harness.models.cache import KeyValues


@dataclass
class Wish:
    """A prompt of at least one token; how many to make at most; whether what was made is enough."""

    prompt: list[int]
    most: int
    enough: Callable[[list[int]], bool]
    made: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.made


@torch.no_grad()
def generate(model: nn.Module, wishes: Sequence[Wish], context: int, device: torch.device) -> None:
    """Fill `made` of every wish with the likeliest next tokens, one by one, each after the last `context` tokens that
    are there. Tokens that fit the context cost one token each; beyond it every token sees others than the one before
    did, and the whole window is computed anew."""
    active = [wish for wish in wishes if wish.most > 0]
    fitting = [wish for wish in active if len(wish.prompt) <= context]
    if fitting:
        _with_cache(model, fitting, context, device)
    for wish in active:
        while len(wish.made) < wish.most and not wish.enough(wish.made):
            window = torch.tensor([wish.tokens[-context:]], device=device)
            wish.made.append(int(model(window)[0, -1].argmax()))


def _with_cache(model: nn.Module, wishes: list[Wish], context: int, device: torch.device) -> None:
    """Until every wish is met or has filled the context."""
    longest = max(len(wish.prompt) for wish in wishes)
    cache = KeyValues(min(context, longest + max(wish.most for wish in wishes)))
    tokens = torch.tensor([wish.prompt + [0] * (longest - len(wish.prompt)) for wish in wishes])
    positions = torch.arange(longest).expand_as(tokens)
    last = torch.tensor([len(wish.prompt) - 1 for wish in wishes])
    while wishes:
        wanted = positions == last.unsqueeze(1)
        logits = model(tokens.to(device), positions_BT=positions.to(device), cache=cache, wanted_BT=wanted.to(device))
        made = logits.argmax(dim=-1).tolist()
        for wish, token in zip(wishes, made, strict=True):
            wish.made.append(token)
        going = [
            i
            for i, wish in enumerate(wishes)
            if len(wish.made) < wish.most and len(wish.tokens) <= context and not wish.enough(wish.made)
        ]
        if len(going) < len(wishes):
            cache.keep(torch.tensor(going, dtype=torch.long, device=device))
            wishes, last = [wishes[i] for i in going], last[going]
        tokens = torch.tensor([[wish.made[-1]] for wish in wishes], dtype=torch.long)
        last = last + 1
        positions = last.unsqueeze(1)
