"""Documents of lm-eval's stock tasks with their published field names, and a scorer that takes one request at a time."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows
from torch import nn

from harness.data.tokenizers import Tokenizer

ROOT = Path(__file__).parents[1]
EVALS = Path(os.environ.get("HARNESS_DATA") or ROOT.parent / "shared" / "data") / "evals"

needs_evals = pytest.mark.skipif(
    not EVALS.is_dir(), reason=f"no evaluation sets at {EVALS}; HARNESS_DATA can name them"
)

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "naïve",
    "wizards",
    "brew",
    "漢字",
    "tea",
    "near",
    "old",
    "mills",
]
Rows = list[dict[str, Any]]


def sentence(index: int, length: int) -> str:
    return " ".join(WORDS[(index * 7 + i * i + i) % len(WORDS)] for i in range(length))


def options(index: int, count: int) -> dict[str, list[str]]:
    return {"text": [sentence(index + 3 * i, 3 + i) for i in range(count)], "label": list("ABCDE"[:count])}


MAKERS: dict[str, tuple[dict[str, int], Callable[[int], dict[str, Any]]]] = {
    "hellaswag": ({"validation": 7, "train": 9}, lambda i: {
        "activity_label": "Running", "ctx_a": sentence(i, 9) + " [title]", "ctx_b": sentence(i, 3),
        "endings": [sentence(i + j, 4) for j in range(4)], "label": str(i % 4),
    }),
    "piqa": ({"validation": 7, "train": 9}, lambda i: {
        "goal": sentence(i, 6), "sol1": sentence(i, 4), "sol2": sentence(i + 1, 5), "label": i % 2,
    }),
    "arc_easy": ({"test": 7, "validation": 5, "train": 9}, lambda i: {
        "question": sentence(i, 8), "choices": options(i, 4), "answerKey": "ABCD"[i % 4],
    }),
    "arc_challenge": ({"test": 7, "train": 9}, lambda i: {
        "question": sentence(i, 8), "choices": options(i, 3 + i % 3), "answerKey": "ABC"[i % 3],
    }),
    "openbookqa": ({"test": 7, "train": 9}, lambda i: {
        "question_stem": sentence(i, 7), "choices": options(i, 4), "answerKey": " ABCD"[1 + i % 4],
    }),
    "sciq": ({"test": 7, "train": 9}, lambda i: {
        "question": sentence(i, 6), "support": " " + sentence(i, 12), "correct_answer": "fox", "distractor1": "dog",
        "distractor2": "old mills", "distractor3": sentence(i, 2),
    }),
    "winogrande": ({"validation": 7, "train": 9}, lambda i: {
        "sentence": f"{sentence(i, 5)} _ {sentence(i, 3)}", "option1": "Ann", "option2": "Bob", "answer": str(1 + i % 2),
    }),
    "boolq": ({"validation": 7, "train": 9}, lambda i: {
        "passage": sentence(i, 20), "question": sentence(i, 5), "label": i % 2,
    }),
    "copa": ({"validation": 7, "train": 9}, lambda i: {
        "premise": sentence(i, 5) + ".", "choice1": sentence(i, 3), "choice2": sentence(i + 1, 4),
        "question": ("cause", "effect")[i % 2], "label": i % 2,
    }),
    "commonsense_qa": ({"validation": 7, "train": 9}, lambda i: {
        "question": sentence(i, 6) + "? ", "choices": options(i, 5), "answerKey": "ABCDE"[i % 5],
    }),
    "social_iqa": ({"validation": 7, "train": 9}, lambda i: {
        "context": sentence(i, 6), "question": sentence(i, 4), "answerA": "tea", "answerB": sentence(i, 2),
        "answerC": sentence(i, 3), "label": str(1 + i % 3),
    }),
    "lambada_openai": ({"test": 7}, lambda i: {"text": sentence(i, 15)}),
    "wikitext": ({"test": 3}, lambda i: {"page": f" \n = {sentence(i, 2)} = \n \n {sentence(i, 60)} @-@ end . \n"}),
}  # fmt: skip
SUBJECTS = ("abstract_algebra", "anatomy", "philosophy", "world_religions")


def write_rows(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_task(folder: Path, name: str) -> None:
    splits, make = MAKERS[name]
    for split, count in splits.items():
        write_rows(folder / name / f"{split}.jsonl", [make(17 * len(split) + i) for i in range(count)])


def write_mmlu(folder: Path) -> None:
    def row(i: int) -> dict[str, Any]:
        return {"question": sentence(i, 7), "choices": [sentence(i + j, 2) for j in range(4)], "answer": i % 4}

    from harness.evaluation.stock import find

    for leaf in find("mmlu").leaves:
        subject = leaf.name.removeprefix("mmlu_")
        size = len(subject)
        write_rows(folder / "mmlu" / subject / "test.jsonl", [row(size + i) for i in range(2)])
        write_rows(folder / "mmlu" / subject / "dev.jsonl", [row(size + 50 + i) for i in range(5)])


def write_blimp(folder: Path, paradigm: str, count: int = 6) -> None:
    rows = [{"sentence_good": sentence(i, 6), "sentence_bad": sentence(i, 5) + " of"} for i in range(count)]
    write_rows(folder / "blimp" / f"{paradigm}.jsonl", rows)


class NaiveLM(TemplateLM):
    """One request, one token, float64, and the parent class's own way to take text apart."""

    def __init__(self, model: nn.Module, codec: Tokenizer, context: int):
        super().__init__()
        self.model, self.codec, self.context = copy.deepcopy(model).double().eval(), codec, context

    @property
    def eot_token_id(self) -> int:
        return self.codec.boundary

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.codec.encode(string)

    @torch.no_grad()
    def following(self, history: list[int]) -> torch.Tensor:
        return self.model(torch.tensor([history[-self.context :]]))[0, -1].log_softmax(-1)

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        answers = []
        for _, before, after in requests:
            assert len(before) + len(after) <= self.context + 1, "this scorer has no windows"
            total, greedy = 0.0, True
            for i, token in enumerate(after):
                logprobs = self.following(before + after[:i])
                total += float(logprobs[token])
                greedy &= int(logprobs.argmax()) == token
            answers.append((total, greedy))
        return answers

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        totals = []
        for request in requests:
            windows = get_rolling_token_windows(
                self.codec.encode(request.args[0]), self.codec.boundary, self.context, 1
            )
            total = 0.0
            for inputs, targets in windows:
                for i, token in enumerate(targets):
                    total += float(self.following(inputs[: len(inputs) - len(targets) + 1 + i])[token])
            totals.append(total)
        return totals

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        answers = []
        for request in requests:
            prompt, wished = request.args
            made: list[int] = []
            text = ""
            for _ in range(wished.get("max_gen_toks", 256)):
                made.append(int(self.following((self.codec.encode(prompt) or [self.codec.boundary]) + made).argmax()))
                text = self.codec.decode(made)
                if made[-1] == self.codec.boundary or any(stop in text for stop in wished["until"]):
                    break
            ends = [text.index(stop) for stop in wished["until"] if stop in text]
            answers.append(text[: min(ends, default=len(text))])
        return answers
