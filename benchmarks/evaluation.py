"""Requests per second of our lm-eval model, as ratios from interleaved runs in one process.

    pip install -c constraints.txt -e '.[bench]'
    HARNESS_EVAL_DATA=.../evals python benchmarks/evaluation.py

Multiple choice: against lm-eval's own HFLM around a Hugging Face GPT-2 of equal size with the same tokenizer. One
choice: against a plain loop over batches of the same model, which encodes, sorts, pads and takes all logits. Start:
from the names of ten stock tasks with local files to their last request, beyond imports. Every pair of runs is
A B B A ...; a ratio is the median over rounds, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.update(TQDM_DISABLE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")

import torch
from lm_eval.api.instance import Instance

from harness.connections.settings import ResidualSettings
from harness.data.corpora import load_corpus
from harness.data.documents import Corpus, texts
from harness.data.settings import data_settings
from harness.data.subwords import SubwordTokenizer
from harness.evaluation.asked import resolve
from harness.evaluation.build import build, templates_compiled_once
from harness.evaluation.checks import check
from harness.evaluation.lm import HarnessLM
from harness.evaluation.local import eval_folder
from harness.evaluation.settings import EvaluationSettings
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings

Pair = tuple[str, str]
LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY = 6, 256, 8, 512, 4096
TEN = [
    "hellaswag",
    "piqa",
    "arc_easy",
    "arc_challenge",
    "winogrande",
    "sciq",
    "openbookqa",
    "boolq",
    "lambada_openai",
    "wikitext",
]


def instances(pairs: Sequence[Pair]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]


def interleaved(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> dict[str, float]:
    """How many times faster ours is: A B B A ..., after one run of each that warms up."""
    for run in (ours, theirs):
        run()
    ratios = []
    for number in range(rounds):
        seconds = {}
        for run in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            began = time.perf_counter()
            run()
            seconds[run] = time.perf_counter() - began
        ratios.append(seconds[theirs] / seconds[ours])
    return {"ratio": statistics.median(ratios), "smallest": min(ratios), "largest": max(ratios), "rounds": rounds}


def questions(name: str, limit: int) -> list[Pair] | None:
    """The requests of a stock task from local documents; None where there are none."""
    settings = EvaluationSettings(tasks=(name,), limit=limit)
    [asked] = resolve(settings)
    if asked.local[0] is None:
        return None
    with templates_compiled_once():
        built = build(asked, settings, None, eval_folder(None, None))
        check(built)
    requests = [instance.args for task in built.tasks.values() for instance in task.instances]
    # GPT-2's table of positions ends; ours would be windowed.
    return [pair for pair in requests if len("".join(pair)) < CONTEXT]


def made_up(corpus: Corpus, count: int) -> list[Pair]:
    """Choices like those of ARC from any text: a passage and four continuations, where no task is at hand."""
    lines = [line for text in texts(corpus.valid) for line in text.splitlines() if 40 < len(line) < 100]
    pairs = []
    for index in range(count // 4):
        context = f"Question: {lines[index % len(lines)]}\nAnswer:"
        pairs += [(context, " " + lines[(index * 7 + choice) % len(lines)][:30]) for choice in range(4)]
    return pairs


class PlainLoop:
    """What one would write by hand: encode, sort, pad, all logits, gather."""

    def __init__(self, model: Decoder, tokenizer: SubwordTokenizer, rows: int):
        self.model, self.tokenizer, self.rows = model, tokenizer, rows

    @torch.no_grad()
    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        contexts = self.tokenizer.encode_all([before for before, _ in pairs])
        whole = self.tokenizer.encode_all([before + after for before, after in pairs])
        order = sorted(range(len(pairs)), key=lambda i: -len(whole[i]))
        found = [0.0] * len(pairs)
        for start in range(0, len(order), self.rows):
            some = order[start : start + self.rows]
            longest = len(whole[some[0]]) - 1
            tokens = torch.zeros(len(some), longest, dtype=torch.long)
            for row, index in enumerate(some):
                tokens[row, : len(whole[index]) - 1] = torch.tensor(whole[index][:-1])
            logprobs = self.model(tokens).log_softmax(-1)
            for row, index in enumerate(some):
                first, last = len(contexts[index]) - 1, len(whole[index]) - 1
                targets = torch.tensor(whole[index][len(contexts[index]) :])
                found[index] = logprobs[row, first:last].gather(1, targets[:, None]).sum().item()
        return found


def hugging_face(tokenizer: SubwordTokenizer, rows: int) -> Any:
    """lm-eval's HFLM around a GPT-2 of the decoder's size, random as it is."""
    import transformers
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer

    transformers.logging.set_verbosity_error()
    library = Tokenizer.from_str(tokenizer.text)
    library.add_special_tokens(["<|boundary|>"])
    marks = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|boundary|>")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=library, **marks)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.vocabulary, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        bos_token_id=tokenizer.boundary, eos_token_id=tokenizer.boundary,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    return HFLM(pretrained=model, tokenizer=fast, batch_size=rows, max_length=CONTEXT, device="cpu")


def published_rows(name: str) -> tuple[str, list[dict[str, Any]]]:
    """(scored split, rows with the published field names, in the published number) of a stock task. The words are made
    up: this times the start, not the answers."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards", "brew"]

    def sentence(index: int, length: int) -> str:
        return " ".join(words[(index * 7 + i * i) % len(words)] for i in range(length))

    def options(index: int, count: int) -> dict[str, Any]:
        return {"text": [sentence(index + i, 5) for i in range(count)], "label": ["A", "B", "C", "D"][:count]}

    makers: dict[str, tuple[str, int, Callable[[int], dict[str, Any]]]] = {
        "hellaswag": ("validation", 10_042, lambda i: {
            "activity_label": "Running", "ctx_a": sentence(i, 20), "ctx_b": sentence(i, 3), "ctx": sentence(i, 23),
            "endings": [sentence(i + j, 15) for j in range(4)], "label": str(i % 4),
        }),
        "piqa": ("validation", 1838, lambda i: {
            "goal": sentence(i, 8), "sol1": sentence(i, 20), "sol2": sentence(i + 1, 20), "label": i % 2,
        }),
        "arc_easy": ("test", 2376, lambda i: {"question": sentence(i, 15), "choices": options(i, 4), "answerKey": "B"}),
        "arc_challenge": ("test", 1172, lambda i: {
            "question": sentence(i, 15), "choices": options(i, 4), "answerKey": "C",
        }),
        "winogrande": ("validation", 1267, lambda i: {
            "sentence": f"{sentence(i, 9)} _ {sentence(i, 4)}", "option1": "Ann", "option2": "Bob", "answer": "1",
        }),
        "sciq": ("test", 1000, lambda i: {
            "question": sentence(i, 12), "support": sentence(i, 60), "correct_answer": "fox", "distractor1": "dog",
            "distractor2": "cat", "distractor3": "owl",
        }),
        "openbookqa": ("test", 500, lambda i: {
            "question_stem": sentence(i, 10), "choices": options(i, 4), "answerKey": "A",
        }),
        "boolq": ("validation", 3270, lambda i: {
            "passage": sentence(i, 100), "question": sentence(i, 8), "label": i % 2,
        }),
        "lambada_openai": ("test", 5153, lambda i: {"text": sentence(i, 70)}),
        "wikitext": ("test", 62, lambda i: {"page": sentence(i, 4000)}),
    }  # fmt: skip
    split, count, make = makers[name]
    return split, [make(index) for index in range(count)]


def start_seconds(folder: Path, tier: str) -> tuple[float, int]:
    """(seconds from the names to the last request built, requests) of ten stock tasks at their published sizes."""
    from harness.evaluation import stock

    for cached in (stock._texts, stock._index, stock._includers, stock._tagged):
        cached.cache_clear()
    settings = EvaluationSettings(tasks=TEN, tier=tier, data=str(folder))
    began = time.perf_counter()
    with templates_compiled_once():
        requests = sum(check(build(asked, settings, None, folder)) for asked in resolve(settings))
    return time.perf_counter() - began, requests


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=250, help="documents of a task")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[8, 32], help="batch sizes of the others; the best counts"
    )
    options = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    corpus = load_corpus(data_settings(tokenizer={"type": "bpe", "vocabulary": VOCABULARY}))
    tokenizer = corpus.tokenizer
    assert isinstance(tokenizer, SubwordTokenizer)
    shape = DecoderSettings(layers=LAYERS, width=WIDTH, heads=HEADS, context=CONTEXT)
    model = Decoder(shape, ResidualSettings(), tokenizer.vocabulary, boundary=tokenizer.boundary).eval()
    ours = HarnessLM(model, tokenizer, CONTEXT)
    asked = {name: found for name in ("arc_easy", "piqa") if (found := questions(name, options.limit))}
    asked["made-up choices"] = made_up(corpus, 4 * options.limit)
    report: dict[str, Any] = {"threads": options.threads, "parameters": sum(p.numel() for p in model.parameters())}
    try:
        others = {rows: hugging_face(tokenizer, rows) for rows in options.rows}
    except ImportError:
        others = {}
        print("transformers is not installed: HFLM is left out (pip install -e '.[bench]')", file=sys.stderr)
    for name, pairs in asked.items():
        for rows, other in others.items():
            found = interleaved(
                lambda pairs=pairs: ours.loglikelihood(instances(pairs)),
                lambda pairs=pairs, other=other: other.loglikelihood(instances(pairs), disable_tqdm=True),
                options.rounds,
            )
            report[f"{name}: times HFLM with batches of {rows}"] = {"requests": len(pairs), **found}
    single = [pair for pairs in asked.values() for pair in pairs[:: max(2, len(pairs) // 400)]]
    for rows in options.rows:
        loop = PlainLoop(model, tokenizer, rows)
        found = interleaved(
            lambda: ours.loglikelihood(instances(single)), functools.partial(loop, single), options.rounds
        )
        report[f"one choice: times a plain loop with batches of {rows}"] = {"requests": len(single), **found}
        largest = max(abs(a - b) for (a, _), b in zip(ours.loglikelihood(instances(single)), loop(single), strict=True))
        assert largest < 1e-2, f"the loop finds other numbers: {largest}"
    with tempfile.TemporaryDirectory() as folder:
        for name in TEN:
            split, rows = published_rows(name)
            (Path(folder) / name).mkdir()
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (Path(folder) / name / f"{split}.jsonl").write_text(lines)
        for tier in ("fast", "full"):
            seconds, requests = start_seconds(Path(folder), tier)
            report[f"start of ten stock tasks, {tier}"] = {"seconds": seconds, "requests": requests}
    for name, found in report.items():
        print(f"{name}: {json.dumps(found)}")


if __name__ == "__main__":
    main()
