"""The lm-eval model against a scorer that takes one request, one token and float64 at a time."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.utils import get_rolling_token_windows
from torch import Tensor, nn

from harness.data.tokenizers import ByteTokenizer
from harness.evaluation.lm import HarnessLM
from harness.models.decoder import Decoder

CONTEXT, BOUNDARY = 16, 256
TEXT = "Licensed under the Apache License, naïve 漢字 and 🙂 in it; you may not use this file."
PAIRS = [
    ("Licensed", " under"), ("the", " Apache"), ("x", "y"), ("naïve 漢", "字"), ("", "you may"), ("", "n"),
    ("a", "bcdefghijklmno"), ("", "abcdefghijklmnop"),
]  # fmt: skip
Make = Callable[..., Decoder]


def requests(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=args, idx=i) for i, args in enumerate(arguments)]


def naive(model: nn.Module, history: Sequence[int], target: int) -> tuple[float, bool]:
    """Log-probability of one token after a history that fits, by itself and in float64; whether it is likeliest."""
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(torch.tensor([list(history)]))[0, -1]
    return float(logits.log_softmax(-1)[target]), int(logits.argmax()) == target


def naive_pair(model: nn.Module, before: list[int], after: list[int]) -> tuple[float, bool]:
    found = [naive(model, before + after[:i], token) for i, token in enumerate(after)]
    return sum(value for value, _ in found), all(best for _, best in found)


class Bigram(nn.Module):
    """The next token depends on the last one alone, so how a text is cut must not matter."""

    def __init__(self, chain: str = ""):
        super().__init__()
        self.table = nn.Embedding(257, 257)
        nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            for first, second in zip(chain.encode(), chain.encode()[1:], strict=False):
                self.table.weight[first, second] = 50.0
        self.longest = 0

    def forward(
        self, tokens_BT: Tensor, *, positions_BT: Tensor | None = None, wanted_BT: Tensor | None = None, **_: Any
    ) -> Tensor:
        T = tokens_BT.shape[1]
        self.longest = max(self.longest, T if positions_BT is None else int(positions_BT.max()) + 1)
        logits = self.table(tokens_BT)
        return logits if wanted_BT is None else logits[wanted_BT]


class NeedsHistory(nn.Module):
    """Sure of 'a' after `needed` tokens and clueless before."""

    def __init__(self, needed: int):
        super().__init__()
        self.needed, self.weight = needed, nn.Parameter(torch.zeros(()))

    def forward(
        self, tokens_BT: Tensor, *, positions_BT: Tensor | None = None, wanted_BT: Tensor | None = None, **_: Any
    ) -> Tensor:
        positions = torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT) if positions_BT is None else positions_BT
        logits = torch.zeros(*tokens_BT.shape, 257)
        logits[..., ord("a")] = 50.0 * (positions >= self.needed - 1)
        return logits if wanted_BT is None else logits[wanted_BT]


def lm(model: nn.Module, batch_size: int = 64) -> HarnessLM:
    return HarnessLM(model, ByteTokenizer(), CONTEXT, batch_size * CONTEXT)


def test_continuations_after_a_context_and_after_none_equal_the_naive_scorer(decoder: Make) -> None:
    model = decoder(CONTEXT)
    found = lm(model).loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)
    for (before, after), (value, best) in zip(PAIRS, found, strict=True):
        expected = naive_pair(model, list(before.encode()) or [BOUNDARY], list(after.encode()))
        assert value == pytest.approx(expected[0], rel=1e-5)
        assert best == expected[1]
    assert len({round(value, 3) for value, _ in found}) == len(PAIRS), "answers must differ to be told apart"


@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT, CONTEXT + 1, 2 * CONTEXT, 2 * CONTEXT + 5, 90])
def test_whole_texts_are_scored_in_lm_evals_own_windows_to_the_last_token(decoder: Make, length: int) -> None:
    model, tokens = decoder(CONTEXT), list(TEXT.encode())[:length]
    text = bytes(tokens).decode(errors="ignore")
    tokens = list(text.encode())
    expected, scored = 0.0, 0
    for inputs, targets in get_rolling_token_windows(tokens, BOUNDARY, CONTEXT, 1):
        for i, target in enumerate(targets):
            expected += naive(model, inputs[: len(inputs) - len(targets) + 1 + i], target)[0]
            scored += 1
    assert scored == len(tokens)
    found = lm(model).loglikelihood_rolling(requests("loglikelihood_rolling", [(text,)]), disable_tqdm=True)
    assert found == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize(("before", "after"), [(0, 90), (3, 60), (CONTEXT, 1), (40, 16), (60, 25), (70, 2)])
def test_a_request_longer_than_the_context_is_scored_in_full(before: int, after: int) -> None:
    model, text = Bigram(), "".join(chr(97 + i * i % 23) for i in range(before + after))
    [(found, _)] = lm(model).loglikelihood(requests("loglikelihood", [(text[:before], text[before:])]), True)
    tokens = [BOUNDARY, *text.encode()]
    steps = [naive(model, [first], second)[0] for first, second in itertools.pairwise(tokens)]
    assert found == pytest.approx(sum(steps[before:]), rel=1e-5)
    assert model.longest <= CONTEXT, "the model never sees more than it takes"


def test_a_long_text_is_scored_whole_by_the_rolling_request_too() -> None:
    model = Bigram()
    tokens = [BOUNDARY, *TEXT.encode()]
    expected = sum(naive(model, [first], second)[0] for first, second in itertools.pairwise(tokens))
    [found] = lm(model).loglikelihood_rolling(requests("loglikelihood_rolling", [(TEXT,)]), True)
    assert found == pytest.approx(expected, rel=1e-5)
    assert model.longest <= CONTEXT


@pytest.mark.parametrize("after", [1, 5, CONTEXT // 2, CONTEXT, 3 * CONTEXT + 1])
def test_every_token_of_a_long_continuation_has_at_least_half_a_context_before_it(after: int) -> None:
    def score(needed: int) -> float:
        pair = ("b" * CONTEXT, "a" * after)
        return lm(NeedsHistory(needed)).loglikelihood(requests("loglikelihood", [pair]), True)[0][0]

    assert score(CONTEXT // 2) == pytest.approx(0.0, abs=1e-6)
    assert score(CONTEXT + 1) < -1.0, "nothing has more than a context before it, so this probe must fail"


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_scores_do_not_depend_on_the_batch_size_or_on_their_neighbours(decoder: Make, batch_size: int) -> None:
    model, pairs = decoder(CONTEXT), [*PAIRS, ("long" * 9, " and longer" * 4)]
    together = lm(model).loglikelihood(requests("loglikelihood", pairs), True)
    found = lm(model, batch_size).loglikelihood(requests("loglikelihood", pairs[::-1]), True)[::-1]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in together], rel=1e-5, abs=1e-5)
    assert [best for _, best in found] == [best for _, best in together]
    texts = [(TEXT,), ("x",), (TEXT[:20],)]
    rolling = [lm(model, size).loglikelihood_rolling(requests("r", texts), True) for size in (64, batch_size)]
    assert rolling[1] == pytest.approx(rolling[0], rel=1e-5, abs=1e-5)


def test_a_continuation_is_greedy_when_all_of_it_is_likeliest() -> None:
    model = Bigram(chain="abcdefghijklmnopqrstuvwxyz")
    pairs = [
        ("a", "bcd"),
        ("a", "bcx"),
        ("a", "xyz"),
        ("a", "bcdefghijklmnopqrstuvwxyz"),
        ("ab", "dcefghijklmnopqrstuvwxyz"),
    ]
    found = lm(model).loglikelihood(requests("loglikelihood", pairs), True)
    assert [best for _, best in found] == [True, False, False, True, False]


def test_nothing_to_score_scores_nothing(decoder: Make) -> None:
    model = lm(decoder(CONTEXT))
    assert model.loglikelihood_rolling(requests("r", [("",), ("a",)]), True)[0] == 0.0
    assert model.loglikelihood(requests("l", [("abc", "")]), True) == [(0.0, True)]
    assert model.loglikelihood([], True) == []


def test_generation_is_greedy_and_sees_the_last_tokens_of_a_long_prompt(decoder: Make) -> None:
    model = decoder(CONTEXT)
    for prompt in ("Licen", "x" * 5 + TEXT, ""):
        [found] = lm(model).generate_until(requests("generate_until", [(prompt, {"max_gen_toks": 20})]))
        tokens = list(prompt.encode()) or [BOUNDARY]
        made: list[int] = []
        for _ in range(20):
            with torch.no_grad():
                made.append(
                    int(copy.deepcopy(model).double()(torch.tensor([(tokens + made)[-CONTEXT:]]))[0, -1].argmax())
                )
        assert BOUNDARY not in made
        assert found == ByteTokenizer().decode(made)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"until": ["f"]}, "bcde"),
        ({"until": "f"}, "bcde"),
        ({"until": ["h", "def", "f"]}, "bc"),
        ({"until": ["b"]}, ""),
        ({"until": ["漢"], "max_gen_toks": 3}, "bcd"),
        ({"max_gen_toks": 5}, "bcdef"),
        ({"until": []}, "bcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_generation_stops_before_the_first_stop_string_or_at_its_length(options: dict[str, Any], text: str) -> None:
    model = Bigram(chain="abcdefghijklmnopqrstuvwxyz")
    with torch.no_grad():
        model.table.weight[ord("z"), BOUNDARY] = 60.0
    assert lm(model).generate_until(requests("generate_until", [("xa", options)])) == [text]
