"""Scores of stock tasks equal a naive scorer's; every answer is kept, and what is measured of answers is right."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from evaluation_support import EVALS, MAKERS, NaiveLM, needs_evals, sentence, write_rows

from harness.connections.settings import HyperSettings
from harness.data.documents import Corpus
from harness.data.settings import BPESettings
from harness.data.subwords import trained
from harness.data.tokenizers import ByteTokenizer, Tokenizer
from harness.evaluation import samples
from harness.evaluation.asked import resolve
from harness.evaluation.build import build
from harness.evaluation.samples import Sample
from harness.evaluation.score import Scores, score
from harness.evaluation.settings import EvaluationSettings
from harness.models.decoder import Decoder
from harness.models.settings import DecoderSettings

CONTEXT = 400


@pytest.fixture(scope="module")
def bpe(request: pytest.FixtureRequest) -> Tokenizer:
    corpus: Corpus = request.getfixturevalue("corpus")
    return trained(BPESettings(vocabulary=400), corpus)


def model_of(tokenizer: Tokenizer, context: int = CONTEXT) -> Decoder:
    shape = DecoderSettings(layers=2, width=16, heads=2, context=context, init_std=0.4)
    return Decoder(
        shape, HyperSettings(rate=2), tokenizer.vocabulary, boundary=tokenizer.boundary, backbone_seed=1
    ).eval()


def scored(tokenizer: Tokenizer, folder: Path, keep: Path, *names: str, **settings: Any) -> Scores:
    chosen = EvaluationSettings(tasks=names, data=str(folder), **{"tier": "full", **settings})
    return score(model_of(tokenizer), None, chosen, tokenizer=tokenizer, keep=keep)


def naively(tokenizer: Tokenizer, folder: Path, *names: str, **settings: Any) -> dict[str, Any]:
    """lm-eval's results of the same tasks with a model that takes one request and one token at a time."""
    from lm_eval.evaluator import evaluate

    chosen = EvaluationSettings(tasks=names, data=str(folder), **{"tier": "full", **settings})
    results: dict[str, Any] = {}
    for asked in resolve(chosen):
        made = build(asked, chosen, None, folder)
        found = evaluate(
            NaiveLM(model_of(tokenizer), tokenizer, CONTEXT),
            task_dict={"tasks": made.tasks, "groups": made.groups, "group_map": {}},
            limit=made.limit, bootstrap_iters=0, log_samples=True,
        )  # fmt: skip
        results[made.label] = found
    return results


def assert_same(ours: Scores, naive: dict[str, Any], keep: Path) -> None:
    assert set(ours.stamps) == set(naive)
    for label, found in naive.items():
        asked = label.split(":")[0]
        for name, metrics in found["results"].items():
            below = "" if name == asked else f"{name}/"
            for key, value in metrics.items():
                if key.endswith(",none") and "stderr" not in key and math.isfinite(value):
                    assert ours.metrics[f"eval/{label}/{below}{key[:-5]}"] == pytest.approx(value, rel=1e-4), (
                        label,
                        key,
                    )
        _, kept = samples.read(keep / samples.file_name(label))
        for task, logged in found["samples"].items():
            for entry in logged:
                mine = kept[task, entry["doc_id"]]
                answers = [answers[0] for answers in entry["resps"]]
                if mine.text is not None:
                    assert mine.text == answers[0]
                    continue
                theirs = [answer[0] if isinstance(answer, (tuple, list)) else answer for answer in answers]
                assert list(mine.scores) == pytest.approx(theirs, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_scores_of_stock_tasks_are_those_of_a_naive_scorer(
    kind: str, bpe: Tokenizer, documents: Path, tmp_path: Path
) -> None:
    tokenizer = ByteTokenizer() if kind == "bytes" else bpe
    names = list(MAKERS) if kind == "bpe" else ["piqa", "sciq", "winogrande", "copa", "lambada_openai", "wikitext"]
    ours = scored(tokenizer, documents, tmp_path, *names, limit=3)
    assert_same(ours, naively(tokenizer, documents, *names, limit=3), tmp_path)
    assert len(ours.stamps) == len(names)


def test_examples_are_those_that_lm_eval_draws_for_the_same_seed(
    bpe: Tokenizer, documents: Path, tmp_path: Path
) -> None:
    names = ("piqa", "arc_easy", "winogrande")
    ours = scored(bpe, documents, tmp_path, *names, num_fewshot=2)
    assert_same(ours, naively(bpe, documents, *names, num_fewshot=2), tmp_path)
    assert list(ours.stamps) == ["piqa:2shot", "arc_easy:2shot", "winogrande:2shot"]


def test_names_that_mlflow_does_not_take_are_written_as_it_does(bpe: Tokenizer, tmp_path: Path) -> None:
    name = "darijammlu_arabic_language_(grammar)"
    row = {
        "source": "s", "question": "q", "choices": ["a", "b"], "answer": 1, "context": "", "subject_darija": "x", "egy_subject": "x",
    }  # fmt: skip
    write_rows(tmp_path / "evals" / name / "test.jsonl", [row] * 2)
    (tmp_path / "keep").mkdir()
    found = scored(bpe, tmp_path / "evals", tmp_path / "keep", name)
    assert "eval/darijammlu_arabic_language__grammar_/acc" in found.metrics
    assert (tmp_path / "keep" / "darijammlu_arabic_language__grammar_.jsonl.gz").exists()


def test_groups_are_aggregated_as_lm_eval_does_and_their_members_lie_below_them(bpe: Tokenizer, tmp_path: Path) -> None:
    from harness.evaluation.stock import find

    for leaf in find("blimp").leaves:
        rows = [{"sentence_good": sentence(i, 4), "sentence_bad": sentence(i + 1, 4)} for i in range(2)]
        write_rows(tmp_path / "evals" / "blimp" / f"{leaf.name.removeprefix('blimp_')}.jsonl", rows)
    (tmp_path / "keep").mkdir()
    ours = scored(bpe, tmp_path / "evals", tmp_path / "keep", "blimp", limit=2)
    assert_same(ours, naively(bpe, tmp_path / "evals", "blimp", limit=2), tmp_path / "keep")
    members = [name for name in ours.metrics if name.startswith("eval/blimp/blimp_") and name.endswith("/acc")]
    assert len(members) == 67
    assert ours.metrics["eval/blimp/acc"] == pytest.approx(sum(ours.metrics[name] for name in members) / 67)
    assert ours.metrics["eval/blimp/documents"] == 134
    assert ours.stamps["blimp"]["documents"] == 134


def test_generated_answers_are_scored_under_every_filter(bpe: Tokenizer, tmp_path: Path) -> None:
    rows = [{"question": sentence(i, 3), "answer": f"so #### {i}"} for i in range(3)]
    write_rows(tmp_path / "evals" / "gsm8k" / "test.jsonl", rows)
    (tmp_path / "keep").mkdir()
    ours = scored(bpe, tmp_path / "evals", tmp_path / "keep", "gsm8k", num_fewshot=0)
    assert_same(ours, naively(bpe, tmp_path / "evals", "gsm8k", num_fewshot=0), tmp_path / "keep")
    assert {"eval/gsm8k:0shot/exact_match.strict-match", "eval/gsm8k:0shot/exact_match.flexible-extract"} <= set(
        ours.metrics
    )
    _, kept = samples.read(tmp_path / "keep" / "gsm8k-0shot.jsonl.gz")
    first = kept["gsm8k", 0]
    assert first.text is not None
    assert first.tokens[0] > 0
    assert set(first.metrics) == {"exact_match.strict-match", "exact_match.flexible-extract"}


@needs_evals
def test_published_documents_get_the_naive_scores_too(bpe: Tokenizer, tmp_path: Path) -> None:
    names = ("arc_easy", "blimp_adjunct_island", "piqa")
    ours = scored(bpe, EVALS, tmp_path, *names, limit=8)
    assert_same(ours, naively(bpe, EVALS, *names, limit=8), tmp_path)


def test_right_answers_are_found_as_the_tasks_own_metrics_find_them(
    bpe: Tokenizer, documents: Path, tmp_path: Path
) -> None:
    names = [name for name in MAKERS if name not in ("wikitext", "lambada_openai")]
    scored(bpe, documents, tmp_path, *names)
    for name in names:
        _, kept = samples.read(tmp_path / samples.file_name(name))
        assert kept
        for sample in kept.values():
            assert len(sample.gold) == 1, name
            assert len(sample.scores) == len(sample.bytes) == len(sample.tokens) == len(sample.greedy)
            likeliest = max(range(len(sample.scores)), key=lambda i: sample.scores[i])
            assert sample.metrics["acc"] == float(likeliest == sample.gold[0]), name
            assert (sample.margin > 0) == (sample.metrics["acc"] == 1.0), name


def sample(**more: Any) -> Sample:
    return Sample(**{"task": "t", "document": 0, "question": "q", **more})


def test_measures_of_the_right_answer_are_what_they_are_called() -> None:
    found = samples.measures([
        sample(scores=(-4.0, -2.0, -6.0), bytes=(8, 4, 6), gold=(0,)),
        sample(scores=(-1.0, -3.0), bytes=(2, 2), gold=(0,)),
    ])  # fmt: skip
    assert found["gold_logprob"] == -2.5
    assert found["gold_bits_per_byte"] == pytest.approx((4 / 8 + 1 / 2) / 2 / math.log(2))
    assert found["margin"] == pytest.approx((-2.0 + 2.0) / 2)
    assert found["margin_stderr"] == pytest.approx(2.0 * math.sqrt(2) / math.sqrt(2))
    several = sample(scores=(-4.0, -2.0, -1.0), bytes=(4, 4, 4), gold=(0, 1))
    assert several.gold_score == (-2.0, 4)
    assert several.margin == -1.0
    assert sample(scores=(-4.0, -2.0), bytes=(1, 1), gold=()).margin is None
    assert sample(scores=(-4.0,), bytes=(1,), gold=(0,)).margin is None, "no wrong answer, no margin"
    assert samples.measures([sample(scores=(-7.0,), bytes=(3,))]) == {"nll": 7.0}
    assert samples.measures([]) == {}


def test_samples_come_back_as_they_were_and_equal_ones_are_equal_files(tmp_path: Path) -> None:
    kept = [
        sample(document=3, scores=(-0.1, -2.5), bytes=(3, 4), tokens=(1, 2), greedy=(True, False), gold=(1,), metrics={"acc": 0.0}),
        sample(document=1, text="said: «naïve 漢字»\n", tokens=(4,)),
        sample(task="other", document=3, scores=(-9.0,), bytes=(20,), tokens=(6,)),
    ]  # fmt: skip
    samples.write(tmp_path / "a.jsonl.gz", {"label": "t"}, kept)
    samples.write(tmp_path / "b.jsonl.gz", {"label": "t"}, kept)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    head, found = samples.read(tmp_path / "a.jsonl.gz")
    assert head == {"format": 1, "label": "t"}
    assert list(found.values()) == kept
    assert found["other", 3] == kept[2]
    lines = gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).decode().splitlines()
    assert all(json.loads(line) for line in lines)
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write('{"format": 99}\n')
    with pytest.raises(ValueError, match="format 99"):
        samples.read(tmp_path / "c.jsonl.gz")


def test_two_models_that_were_asked_the_same_have_one_stamp_and_others_another(
    bpe: Tokenizer, documents: Path, tmp_path: Path
) -> None:
    first = scored(bpe, documents, tmp_path, "piqa").stamps
    assert scored(ByteTokenizer(), documents, tmp_path, "piqa").stamps == first, "the tokenizer is not the question"
    assert scored(bpe, documents, tmp_path, "piqa", num_fewshot=1).stamps["piqa:1shot"] != first["piqa"]
    rows = [MAKERS["piqa"][1](17 * len("validation") + i) for i in range(7)]
    rows[4]["sol2"] += "!"
    write_rows(tmp_path / "other" / "piqa" / "validation.jsonl", rows)
    other = scored(bpe, tmp_path / "other", tmp_path, "piqa").stamps
    assert other["piqa"]["questions"] != first["piqa"]["questions"]
    assert {**other["piqa"], "questions": ""} == {**first["piqa"], "questions": ""}


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity_on_any_text(
    documents: Path, bpe: Tokenizer, tmp_path: Path
) -> None:
    import torch

    model = model_of(bpe, 16)
    with torch.no_grad():
        model.embedding.weight.zero_()
    settings = EvaluationSettings(tasks=("wikitext", "lambada_openai"), data=str(documents), tier="full")
    found = score(model, None, settings, tokenizer=bpe, keep=tmp_path).metrics
    for name in ("wikitext", "lambada_openai"):
        _, kept = samples.read(tmp_path / f"{name}.jsonl.gz")
        for one in kept.values():
            assert one.tokens[0] > (16 if name == "wikitext" else 0), "longer than the context"
            assert one.scores[0] == pytest.approx(-one.tokens[0] * math.log(400), rel=1e-5)
    pages = [json.loads(line)["page"] for line in (documents / "wikitext" / "test.jsonl").read_text().splitlines()]
    nats = found["eval/wikitext/nll"] * 3
    true_bytes = sum(len(page.encode()) for page in pages)
    assert not all(page.isascii() for page in pages)
    assert found["eval/wikitext/bits_per_byte"] == pytest.approx(nats / math.log(2) / true_bytes, rel=1e-6)
