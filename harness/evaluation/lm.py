"""The native module behind lm-eval's interface: no conversion, no hub, no transformers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows
from torch import Tensor, nn
from torch.nn import functional as F

from harness.data.tokenizers import Tokenizer

Window = tuple[int, list[int], list[int]]
"""(row, inputs, targets): the targets are what follows the last len(targets) inputs."""


class HarnessLM(TemplateLM):
    """A model from token ids (B, T) to logits (B, T, V), scored in batches sorted by length.

    `context` is the most tokens that the model takes. Every token is scored, however long the text: whole texts in
    lm-eval's own disjoint windows, a continuation that does not fit in windows with at least half a context before
    each new token.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, context: int, batch_size: int = 64):
        super().__init__()
        self.model, self.codec, self.context, self.batch_size = model, tokenizer, context, batch_size
        self._device = next(model.parameters()).device

    @property
    def eot_token_id(self) -> int:
        return self.codec.boundary

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.codec.encode(string)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood in nats of whole texts, each after the boundary token."""
        windows = [
            (row, inputs, targets)
            for row, request in enumerate(requests)
            for inputs, targets in get_rolling_token_windows(
                self.codec.encode(request.args[0]), self.codec.boundary, self.context, context_len=1
            )
        ]
        return [total for total, _ in self._score(windows, len(requests))]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        windows = [
            (row, inputs, targets)
            for row, (_, before, after) in enumerate(requests)
            for inputs, targets in _windows(before or [self.codec.boundary], after, self.context)
        ]
        return self._score(windows, len(requests))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuation until a stop string or `max_gen_toks`, the whole window recomputed for every token."""
        return [self._generate(*request.args) for request in requests]

    @torch.no_grad()
    def _generate(self, prompt: str, options: dict[str, Any]) -> str:
        stops = options.get("until") or []
        stops = [stops] if isinstance(stops, str) else stops
        tokens = self.codec.encode(prompt) or [self.codec.boundary]
        made: list[int] = []
        for _ in range(int(options.get("max_gen_toks", 256))):
            window = torch.tensor([(tokens + made)[-self.context :]], device=self._device)
            token = int(self.model(window)[0, -1].argmax())
            if token == self.codec.boundary:
                break
            made.append(token)
            text = self.codec.decode(made)
            if found := [text.index(stop) for stop in stops if stop in text]:
                return text[: min(found)]
        return self.codec.decode(made)

    @torch.no_grad()
    def _score(self, windows: list[Window], rows: int) -> list[tuple[float, bool]]:
        """For every row, the log-likelihood of the targets of its windows, and whether all of them are likeliest."""
        parts: list[list[float]] = [[] for _ in range(rows)]
        greedy = [True] * rows
        # Windows of like length meet in a batch, so that little is padded; padding is on the right, where a causal
        # model cannot see it from the left.
        windows = sorted(windows, key=lambda window: len(window[1]))
        for start in range(0, len(windows), self.batch_size):
            batch = windows[start : start + self.batch_size]
            for (row, _, _), (total, best) in zip(batch, self._score_batch(batch), strict=True):
                parts[row].append(total)
                greedy[row] &= best
        return [(math.fsum(part), best) for part, best in zip(parts, greedy, strict=True)]

    def _score_batch(self, batch: list[Window]) -> Iterator[tuple[float, bool]]:
        longest = max(len(inputs) for _, inputs, _ in batch)
        tokens = torch.full((len(batch), longest), self.codec.boundary)
        targets = torch.full((len(batch), longest), -1)
        for i, (_, inputs, after) in enumerate(batch):
            tokens[i, : len(inputs)] = torch.tensor(inputs)
            targets[i, len(inputs) - len(after) : len(inputs)] = torch.tensor(after)
        logits: Tensor = self.model(tokens.to(self._device)).float().cpu()
        scored = targets >= 0
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none")
        totals = losses.view_as(targets).sum(dim=1, dtype=torch.float64)
        best = ((logits.argmax(-1) == targets) | ~scored).all(dim=1)
        return zip((-totals).tolist(), best.tolist(), strict=True)


def _windows(before: list[int], after: list[int], context: int) -> Iterator[tuple[list[int], list[int]]]:
    """(inputs, targets) with at most `context` inputs each; the targets are those of the last inputs and together
    make up `after`."""
    whole, done = before + after, len(before)
    end = len(whole) if len(whole) - 1 <= context else min(len(whole), max(context + 1, done + 1))
    while done < len(whole):
        yield whole[max(0, end - 1 - context) : end - 1], whole[done:end]
        done, end = end, min(len(whole), end + max(context // 2, 1))
