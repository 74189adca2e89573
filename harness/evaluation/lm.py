"""The native module behind lm-eval's interface: no conversion, no hub, no transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows
from torch import nn

from harness.data.tokenizers import Tokenizer
from harness.errors import HarnessError
from harness.evaluation.generation import Wish, generate
from harness.evaluation.trees import Batch, Window, collate, grow, in_batches

BATCH_TOKENS = {"cpu": 1024, "cuda": 65_536}
"""Tokens of a batch, padding among them. On a CPU more is slower: less padding, and what is at work fits the cache."""
BATCH_LOGITS = 2**26
"""Logits of a batch: 256 MiB."""
PROMPTS = 32
"""Prompts that are continued at a time."""
MADE_BY_DEFAULT = 256


class HarnessLM(TemplateLM):
    """A model from token ids (B, T) to logits, as `Decoder` is, scored in batches of like length.

    `context` is the most tokens that the model takes. Every token is scored, however long the text: whole texts in
    lm-eval's own disjoint windows, a continuation that does not fit in windows with at least half a context before
    each new token. Neighbouring requests that begin alike, such as the choices of a question, share what they have in
    common. `answered` is called with the number of requests that are done since its last call.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        context: int,
        batch_tokens: int | None = None,
        answered: Callable[[int], None] = lambda count: None,
    ):
        super().__init__()
        self.model, self.codec, self.context, self.answered = model, tokenizer, context, answered
        self._device = next(model.parameters()).device
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self._device.type, BATCH_TOKENS["cuda"])
        self.tokens: dict[int, int] = {}
        """By the id of a request (they live as long as their task): how many tokens were scored, or made."""

    @property
    def eot_token_id(self) -> int:
        return self.codec.boundary

    @property
    def tokenizer_name(self) -> str:
        return self.codec.digest

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.codec.encode(string)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood in nats of the continuation after the context, whether all of it is likeliest). What the
        parent class does one pair after another, with every text encoded once."""
        encoded = self._encode_pairs([request.args for request in requests])
        self.tokens.update((id(request), len(after)) for request, (_, after) in zip(requests, encoded, strict=True))
        return self._loglikelihood_tokens(
            [(request.args, before, after) for request, (before, after) in zip(requests, encoded, strict=True)]
        )

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """As `TemplateLM` has it: blanks at the end of a context belong to what follows, and a continuation is what the
        tokens of both together have beyond those of the context."""
        split = [_blanks_moved(before, after) for before, after in pairs]
        unique = list(dict.fromkeys(chain.from_iterable((before, before + after) for before, after in split)))
        tokens = dict(zip(unique, self.codec.encode_all(unique), strict=True))
        found = []
        for before, after in split:
            if before:
                found.append((tokens[before], tokens[before + after][len(tokens[before]) :]))
                continue
            # The boundary stands before a text that nothing stands before, unless it begins with it.
            text = (
                tokens[after] if tokens[after][:1] == [self.codec.boundary] else [self.codec.boundary, *tokens[after]]
            )
            found.append((text[:1], text[1:]))
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood in nats of whole texts, each after the boundary token."""
        texts = self.codec.encode_all([request.args[0] for request in requests])
        self.tokens.update((id(request), len(text)) for request, text in zip(requests, texts, strict=True))
        windows = [
            Window(row, np.array(inputs), np.array(targets))
            for row, text in enumerate(texts)
            for inputs, targets in get_rolling_token_windows(text, self.codec.boundary, self.context, context_len=1)
        ]
        return [total for total, _ in self._score(windows, len(requests))]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        windows = [
            Window(row, np.array(inputs), np.array(targets))
            for row, (_, before, after) in enumerate(requests)
            for inputs, targets in _windows(before or [self.codec.boundary], after, self.context)
        ]
        return self._score(windows, len(requests))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations until a stop string or `max_gen_toks`. Raises HarnessError for requests to draw."""
        texts = self.codec.encode_all([request.args[0] for request in requests])
        wishes, stops = [], []
        for request, tokens in zip(requests, texts, strict=True):
            options = request.args[1]
            if options.get("do_sample") and float(options.get("temperature", 1.0)) > 0:
                raise HarnessError(f"the task '{request.task_name}' draws its answers; this model answers greedily")
            until = options.get("until") or []
            stops.append([until] if isinstance(until, str) else [stop for stop in until if stop])
            most = int(options.get("max_gen_toks", MADE_BY_DEFAULT))
            wishes.append(Wish(tokens or [self.codec.boundary], most, self._enough(stops[-1])))
        order = sorted(range(len(wishes)), key=lambda i: -len(wishes[i].prompt))
        for start in range(0, len(order), PROMPTS):
            some = order[start : start + PROMPTS]
            generate(self.model, [wishes[i] for i in some], self.context, self._device)
            self.answered(len(some))
        self.tokens.update((id(request), len(wish.made)) for request, wish in zip(requests, wishes, strict=True))
        return [self._text(wish.made, ends) for wish, ends in zip(wishes, stops, strict=True)]

    def _enough(self, stops: list[str]) -> Callable[[list[int]], bool]:
        def enough(made: list[int]) -> bool:
            if not made:
                return False
            return made[-1] == self.codec.boundary or any(stop in self.codec.decode(made) for stop in stops)

        return enough

    def _text(self, made: list[int], stops: list[str]) -> str:
        text = self.codec.decode(made)
        return text[: min([text.index(stop) for stop in stops if stop in text], default=len(text))]

    @torch.no_grad()
    def _score(self, windows: list[Window], requests: int) -> list[tuple[float, bool]]:
        """For every request, the log-likelihood of the targets of its windows, and whether all are the likeliest."""
        totals, greedy = np.zeros(requests), np.ones(requests, dtype=bool)
        rows = list(grow(windows, longest=max(2 * self.context, self.batch_tokens)))
        most_wanted = max(1, BATCH_LOGITS // self.codec.vocabulary)
        done = told = 0
        for batch in in_batches(rows, self.batch_tokens, most_wanted):
            packed = collate(batch)
            values, best = self._answers(packed)
            # In float64, request by request: a text may have many windows.
            np.add.at(totals, packed.requests, values)
            np.logical_and.at(greedy, packed.requests, best)
            done += sum(len(row.answers) for row in batch)
            self.answered(requests * done // len(windows) - told)
            told = requests * done // len(windows)
        return list(zip(totals.tolist(), greedy.tolist(), strict=True))

    def _answers(self, batch: Batch) -> tuple[Any, Any]:
        """(log-probability, whether it is the likeliest) of every target."""
        place = {"wanted_BT": torch.from_numpy(batch.wanted_BT).to(self._device)}
        if batch.positions_BT is not None and batch.mask_BTT is not None:
            place["positions_BT"] = torch.from_numpy(batch.positions_BT).to(self._device)
            place["mask"] = torch.from_numpy(batch.mask_BTT).unsqueeze(1).to(self._device)
        logits_KV = self.model(torch.from_numpy(batch.tokens_BT).to(self._device), **place).float()
        places, targets = (torch.from_numpy(ids).to(self._device) for ids in (batch.places, batch.targets))
        values = logits_KV[places, targets] - logits_KV.logsumexp(dim=-1)[places]
        best = logits_KV.argmax(dim=-1)[places] == targets
        return values.double().cpu().numpy(), best.cpu().numpy()


def _blanks_moved(before: str, after: str) -> tuple[str, str]:
    kept = before.rstrip()
    return kept, before[len(kept) :] + after


def _windows(before: list[int], after: list[int], context: int) -> Iterator[tuple[list[int], list[int]]]:
    """(inputs, targets) with at most `context` inputs each; the targets are those of the last inputs and together
    make up `after`."""
    whole, done = before + after, len(before)
    end = len(whole) if len(whole) - 1 <= context else min(len(whole), max(context + 1, done + 1))
    while done < len(whole):
        yield whole[max(0, end - 1 - context) : end - 1], whole[done:end]
        done, end = end, min(len(whole), end + max(context // 2, 1))
