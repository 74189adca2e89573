"""Every question with its answer: kept in a compressed file, addressable by task and document, for pairs of arms."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
ENDING = ".jsonl.gz"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One document of a task and what a model made of it.

    Of a choice there is one number for every choice, of a text one: `scores` are log-likelihoods in nats of what was
    scored, `bytes` and `tokens` its length, `greedy` whether the model would have said it. `gold` is the right choice
    (several, where any of them is right). Of a generated answer there is `text`, and `tokens` is how many were made.
    """

    task: str
    document: int
    """Its place among the task's documents, as lm-eval counts them (`doc_id`)."""
    question: str
    """Hash of document and prompt: equal for two models that were asked the same."""
    scores: tuple[float, ...] = ()
    bytes: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    greedy: tuple[bool, ...] = ()
    gold: tuple[int, ...] = ()
    text: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    """lm-eval's, of this document, by name and filter."""

    @property
    def gold_score(self) -> tuple[float, int] | None:
        """(log-likelihood, bytes) of the right choice, of several the likeliest; None where there are no choices."""
        known = [index for index in self.gold if 0 <= index < len(self.scores)]
        return max(((self.scores[i], self.bytes[i]) for i in known), default=None)

    @property
    def margin(self) -> float | None:
        """Nats by which the right choice is likelier than the likeliest wrong one."""
        gold = self.gold_score
        wrong = [score for index, score in enumerate(self.scores) if index not in self.gold]
        return gold[0] - max(wrong) if gold and wrong else None


def of_results(task: Any, logged: Sequence[Mapping[str, Any]], tokens: Mapping[int, int]) -> list[Sample]:
    """The samples of an lm-eval task from what `evaluate` logged, with `tokens` by the id of a request."""
    requests: dict[int, list[Any]] = {}
    for instance in task.instances:
        requests.setdefault(instance.doc_id, []).append(instance)
    found: dict[int, Sample] = {}
    for entry in logged:
        document = int(entry["doc_id"])
        suffix = "" if entry["filter"] == "none" else f".{entry['filter']}"
        metrics = {f"{name}{suffix}": _plain(entry[name]) for name in entry["metrics"]}
        if document in found:  # another filter of the same answers
            found[document].metrics.update(metrics)
            continue
        mine = sorted(requests[document], key=lambda instance: instance.idx)
        found[document] = _sample(task, entry, mine, tokens, metrics)
    return list(found.values())


def _sample(
    task: Any, entry: Mapping[str, Any], requests: list[Any], tokens: Mapping[int, int], metrics: dict[str, Any]
) -> Sample:
    question = hashlib.sha256(f"{entry['doc_hash']}{entry['prompt_hash']}{entry['target_hash']}".encode())
    common = {
        "task": task.config.task,
        "document": int(entry["doc_id"]),
        "question": question.hexdigest()[:16],
        "tokens": tuple(tokens.get(id(request), 0) for request in requests),
        "metrics": metrics,
    }
    kind = task.OUTPUT_TYPE
    answers = [request.resps[0] for request in requests]
    if kind == "generate_until":
        return Sample(**common, text=str(answers[0]))
    if kind == "loglikelihood_rolling":
        text = requests[0].args[0]
        return Sample(**common, scores=(float(answers[0]),), bytes=(len(text.encode()),))
    continuations = [request.args[1] for request in requests]
    return Sample(
        **common,
        scores=tuple(float(score) for score, _ in answers),
        greedy=tuple(bool(best) for _, best in answers),
        bytes=tuple(len(text.encode()) for text in continuations),
        gold=gold_of(task, entry["doc"], len(requests)) if kind == "multiple_choice" else (),
    )


def gold_of(task: Any, doc: Any, choices: int) -> tuple[int, ...]:
    """Which choices are right, as lm-eval's own metrics find it out. Unconditional requests beside the choices (mutual
    information) come after them."""
    answer = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(answer, str):
        texts = task.doc_to_choice(doc)
        answer = texts.index(answer) if answer in texts else -1
    listed = answer if isinstance(answer, list) else [answer]
    return tuple(int(index) for index in listed if isinstance(index, int) and 0 <= index < choices)


def _plain(value: Any) -> Any:
    """A metric of one document as JSON has it: numbers, or lists of them for metrics that need all documents."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)


def measures(samples: Sequence[Sample]) -> dict[str, float]:
    """Means over documents, with their standard errors, of what accuracy does not tell.

    `gold_logprob` (nats) and `gold_bits_per_byte` of the right choice, the delimiter before it among its bytes;
    `margin` (nats) to the likeliest wrong one; of texts `nll`, the negative log-likelihood of a document in nats.
    """
    gold = [found for sample in samples if (found := sample.gold_score) is not None]
    values = {
        "gold_logprob": [score for score, _ in gold],
        "gold_bits_per_byte": [-score / (size * math.log(2)) for score, size in gold if size],
        "margin": [margin for sample in samples if (margin := sample.margin) is not None],
        "nll": [-sample.scores[0] for sample in samples if not sample.gold and len(sample.scores) == 1],
    }
    means: dict[str, float] = {}
    for name, each in values.items():
        if each:
            means[name] = statistics.fmean(each)
        if len(each) > 1:
            means[f"{name}_stderr"] = statistics.stdev(each) / math.sqrt(len(each))
    return means


def questions_digest(samples: Sequence[Sample]) -> str:
    """The same for two models that were asked the same questions."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.task}\0{sample.document}\0{sample.question}\n".encode())
    return digest.hexdigest()[:12]


def file_name(label: str) -> str:
    """Of the samples of one label. A colon is none that every file system takes."""
    return label.replace(":", "-").replace("/", "-") + ENDING


def write(path: Path, head: dict[str, Any], samples: Sequence[Sample]) -> None:
    """Atomic, and of equal samples an equal file: no time, no name in it. The first line is the head."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            for line in ({"format": FORMAT, **head}, *(_without_empty(asdict(sample)) for sample in samples)):
                packed.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read(path: Path) -> tuple[dict[str, Any], dict[tuple[str, int], Sample]]:
    """(head, samples by task and document). Raises OSError or ValueError for what is no such file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        head = json.loads(next(file))
        if head.get("format") != FORMAT:
            raise ValueError(f"{path}: samples of format {head.get('format')}, not {FORMAT}")
        samples = list(_samples(file))
    return head, {(sample.task, sample.document): sample for sample in samples}


def _samples(lines: Iterator[str]) -> Iterator[Sample]:
    for line in lines:
        raw: dict[str, Any] = json.loads(line)
        listed: dict[str, Any] = {key: tuple(value) for key, value in raw.items() if isinstance(value, list)}
        yield Sample(**{**raw, **listed})


def _without_empty(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value not in ((), None)}
