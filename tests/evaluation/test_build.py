"""Task objects from local documents ask what lm-eval's own would ask, and say in a line what keeps them from asking."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_support import EVALS, MAKERS, needs_evals, sentence, write_rows

from harness.errors import UsageError
from harness.evaluation.asked import resolve
from harness.evaluation.build import Questions, build, templates_compiled_once
from harness.evaluation.checks import check
from harness.evaluation.settings import EvaluationSettings
from harness.lm_eval_cli import local_tasks


def ask(folder: Path, *names: str, **settings: Any) -> list[Questions]:
    chosen = EvaluationSettings(tasks=names, data=str(folder), **{"tier": "full", **settings})
    with templates_compiled_once():
        made = [build(asked, chosen, None, folder) for asked in resolve(chosen)]
        for questions in made:
            check(questions)
    return made


def requests(questions: Questions) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [instance.args for instance in task.instances] for name, task in questions.tasks.items()}


def lm_evals_own(folder: Path, names: list[str], scratch: Path, shots: int | None = None) -> dict[str, Any]:
    """The same tasks as lm-eval itself loads them, from YAML files that change nothing but where documents lie."""
    from lm_eval.tasks import TaskManager

    place = scratch / "yaml"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_EVAL_DATA", str(folder))
        assert local_tasks(names, place)
    manager = TaskManager(include_defaults=False, include_path=str(place))
    tasks = manager.load([path.stem for path in sorted(place.glob("*.yaml"))])["tasks"]
    for task in tasks.values():
        own = task.config.num_fewshot
        task.set_config(key="num_fewshot", value=own or 0 if shots is None or own == 0 else shots)
        task.set_fewshot_seed(seed=1234)
        task.build_all_requests()
    return {name: [instance.args for instance in task.instances] for name, task in tasks.items()}


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    return tmp_path


@pytest.mark.parametrize("shots", [0, 2])
def test_every_stock_task_asks_what_lm_eval_asks(documents: Path, hub_cache: Path, shots: int) -> None:
    names = [name for name in MAKERS if not shots or "train" in MAKERS[name][0]]
    ours = {name: asked for made in ask(documents, *names, num_fewshot=shots) for name, asked in requests(made).items()}
    assert ours == lm_evals_own(documents, names, hub_cache, shots)
    assert len(ours) == len(names)


def test_mmlu_takes_its_examples_from_its_own_split_in_their_order(documents: Path, hub_cache: Path) -> None:
    [made] = ask(documents, "mmlu", num_fewshot=5)
    assert made.label == "mmlu:5shot"
    assert len(made.tasks) == 57
    ours = requests(made)
    theirs = lm_evals_own(documents, ["mmlu_abstract_algebra", "mmlu_world_religions"], hub_cache, 5)
    assert {name: ours[name] for name in theirs} == theirs
    prompt = ours["mmlu_abstract_algebra"][0][0]
    assert prompt.startswith("The following are multiple choice questions (with answers) about abstract algebra.\n\n")
    assert prompt.count("Answer:") == 6
    assert made.groups["mmlu"].child_names == ["mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities"]


def test_a_task_that_says_no_examples_stays_at_none_as_in_lm_eval(documents: Path) -> None:
    [made] = ask(documents, "blimp_adjunct_island", num_fewshot=3)
    assert made.num_fewshot == {"blimp_adjunct_island": 0}
    assert made.label == "blimp_adjunct_island"


@needs_evals
@pytest.mark.parametrize(
    ("name", "documents", "requests"),
    [("arc_easy", 2376, 9501), ("piqa", 1838, 3676), ("wikitext", 62, 62), ("blimp_adjunct_island", 1000, 2000)],
)
def test_published_sets_have_their_published_numbers(name: str, documents: int, requests: int) -> None:
    [made] = ask(EVALS, name)
    assert (made.documents, made.label) == (documents, name)
    assert sum(len(task.instances) for task in made.tasks.values()) == requests


@needs_evals
@pytest.mark.slow
def test_every_paradigm_of_blimp_has_a_thousand_pairs() -> None:
    [made] = ask(EVALS, "blimp")
    assert len(made.tasks) == 67
    assert {len(task.eval_docs) for task in made.tasks.values()} == {1000}
    assert {len(task.instances) for task in made.tasks.values()} == {2000}


def test_a_limit_is_in_the_label_only_where_it_leaves_something_out(documents: Path) -> None:
    assert [made.label for made in ask(documents, "piqa", "wikitext", limit=5)] == ["piqa:5", "wikitext"]
    [made] = ask(documents, "piqa", limit=5)
    assert made.documents == 5
    assert [made.label for made in ask(documents, "piqa", limit=7)] == ["piqa"]
    [made] = ask(documents, "piqa", limit=3, num_fewshot=2)
    assert made.label == "piqa:2shot:3"


def test_a_tag_is_its_tasks_one_by_one_and_a_group_is_one(documents: Path) -> None:
    assert [made.label for made in ask(documents, "ai2_arc")] == ["arc_challenge", "arc_easy"]
    write = ("blimp_adjunct_island", "blimp_complex_NP_island")
    assert [made.label for made in ask(documents, *write)] == list(write)


@pytest.mark.parametrize("ending", [".json", ".parquet", ".jsonl.gz", "-00000-of-00002.parquet"])
def test_documents_may_lie_in_other_forms(documents: Path, tmp_path: Path, ending: str) -> None:
    import gzip

    import datasets

    rows = [json.loads(line) for line in (documents / "piqa" / "validation.jsonl").read_text().splitlines()]
    (tmp_path / "piqa").mkdir()
    target = tmp_path / "piqa" / f"validation{ending}"
    if ending == ".json":
        target.write_text(json.dumps(rows))
    elif ending == ".jsonl.gz":
        target.write_bytes(gzip.compress((documents / "piqa" / "validation.jsonl").read_bytes()))
    else:
        half = 3 if "of" in ending else len(rows)
        datasets.Dataset.from_list(rows[:half]).to_parquet(target)
        if half < len(rows):
            datasets.Dataset.from_list(rows[half:]).to_parquet(tmp_path / "piqa" / "validation-00001-of-00002.parquet")
    assert requests(ask(tmp_path, "piqa")[0]) == requests(ask(documents, "piqa")[0])


def test_a_folder_may_be_laid_out_as_on_the_hub(documents: Path, tmp_path: Path) -> None:
    text = (documents / "arc_easy" / "test.jsonl").read_text()
    (tmp_path / "ai2_arc" / "ARC-Easy").mkdir(parents=True)
    (tmp_path / "ai2_arc" / "ARC-Easy" / "test.jsonl").write_text(text)
    assert requests(ask(tmp_path, "arc_easy")[0]) == requests(ask(documents, "arc_easy")[0])


def test_a_task_that_nobody_thought_of_works_from_its_name_alone(tmp_path: Path) -> None:
    rows = [{"question": sentence(i, 5), "answer": f"so it is #### {i}"} for i in range(6)]
    write_rows(tmp_path / "gsm8k" / "test.jsonl", rows)
    write_rows(tmp_path / "gsm8k" / "train.jsonl", rows)
    [made] = ask(tmp_path, "gsm8k")
    assert made.num_fewshot == {"gsm8k": 5}, "its own number of examples"
    assert requests(made)["gsm8k"][0][0].count("Answer:") == 6
    [none] = ask(tmp_path, "gsm8k", num_fewshot=0)
    assert none.label == "gsm8k:0shot"
    rows = [{"sentence": f"{sentence(i, 6)}.", "label": i % 2} for i in range(5)]
    write_rows(tmp_path / "cola" / "validation.jsonl", [{**row, "idx": 0} for row in rows])
    assert len(requests(ask(tmp_path, "cola")[0])["cola"]) == 10


def test_a_task_written_in_python_takes_local_documents_too(tmp_path: Path) -> None:
    rows = [
        {"title": "t", "context": sentence(i, 9), "question": "q?", "text": sentence(i, 5), "value": "fox"}
        for i in range(3)
    ]
    write_rows(tmp_path / "squad_completion" / "validation.jsonl", rows)
    [made] = ask(tmp_path, "squad_completion")
    assert len(requests(made)["squad_completion"]) == 3


Break = Callable[[Path], Any]


def broken(
    change: Callable[[dict[str, Any]], None], at: int = 0, name: str = "piqa", split: str = "validation"
) -> Break:
    def write(folder: Path) -> None:
        rows = [MAKERS[name][1](i) for i in range(7)]
        change(rows[at])
        write_rows(folder / name / f"{split}.jsonl", rows)

    return write


@pytest.mark.parametrize(
    ("task", "write", "message"),
    [
        ("piqa", broken(lambda row: row.update(gaol=row.pop("goal")), 2), "validation.jsonl:3: no field 'goal', which most"),
        ("piqa", lambda f: write_rows(f / "piqa" / "validation.jsonl", [{"gaol": "a", "sol1": "b", "sol2": "c", "label": 0}]),
         "no field 'goal'; did you mean 'gaol'?"),
        ("arc_easy", lambda f: write_rows(f / "arc_easy" / "test.jsonl", [{"question": "q", "choices": {}, "answerKey": "A"}]),
         "'arc_easy' cannot be asked of"),
        ("piqa", broken(lambda row: row.update(sol1=7)), "do not fit together"),
        ("arc_easy", broken(lambda row: row.update(answerKey="Z"), 4, "arc_easy", "test"), "arc_easy/test.jsonl:5: 'Z' is not in list"),
        ("piqa", broken(lambda row: row.update(label=2), 3), "piqa/validation.jsonl:4: its right answer is none of the choices"),
        ("boolq", lambda f: write_rows(f / "boolq" / "validation.jsonl", [{"question": "q", "passage": "p", "answer": True}]),
         "'boolq' cannot be asked of"),
        ("boolq", lambda f: write_rows(f / "boolq" / "validation.jsonl", [{"question": "q", "passage": "p", "lable": 1}]),
         "no field 'label'; did you mean 'lable'?"),
        ("openbookqa", lambda f: write_rows(f / "openbookqa" / "test.jsonl", [
            {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}]),
         "no field 'question_stem'; did you mean 'question'?"),
        ("winogrande", broken(lambda row: row.update(answer="3"), 3, "winogrande"), "winogrande/validation.jsonl:4: KeyError: '3'"),
        ("copa", broken(lambda row: row.update(question="because"), 1, "copa"), "copa/validation.jsonl:2: KeyError: 'because'"),
        ("hellaswag", broken(lambda row: row.update(endings=None), 3, "hellaswag"), "hellaswag/validation.jsonl:4: "),
        ("piqa", lambda f: [write_rows(f / "piqa" / f"validation.{end}", [MAKERS["piqa"][1](0)]) for end in ("json", "jsonl")],
         "not the parts of one split: validation.json, validation.jsonl"),
        ("hellaswag", broken(lambda row: row.update(label="none"), 2, "hellaswag"), "'hellaswag' cannot be asked of"),
        ("arc_easy", lambda f: write_rows(f / "arc_easy" / "validation.jsonl", [MAKERS["arc_easy"][1](0)]),
         "'arc_easy' is scored on its split 'test': no test.jsonl, .json or .parquet in"),
        ("piqa", lambda f: (f / "piqa").mkdir() or (f / "piqa" / "validation.jsonl").write_text('{"goal": "a"\n'),
         "validation.jsonl:1: not JSON"),
        ("piqa", lambda f: (f / "piqa").mkdir() or (f / "piqa" / "validation.jsonl").write_text('{"goal": "a"}\n[1]\n'),
         "validation.jsonl:2: a row must be a JSON object"),
        ("piqa", lambda f: (f / "piqa").mkdir() or (f / "piqa" / "validation.jsonl").write_text("\n"), "is empty"),
        ("piqa", lambda f: (f / "piqa").mkdir() or (f / "piqa" / "validation.parquet").write_text("no"), "cannot read"),
    ],
)  # fmt: skip
def test_documents_that_do_not_do_are_one_line(tmp_path: Path, task: str, write: Break, message: str) -> None:
    write(tmp_path)
    with pytest.raises(UsageError) as caught:
        ask(tmp_path, task)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("evaluation.")


def test_missing_examples_and_missing_tasks_are_one_line(documents: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "piqa" / "validation.jsonl", [MAKERS["piqa"][1](i) for i in range(5)])
    with pytest.raises(
        UsageError, match=r"^evaluation\.num_fewshot: the examples of 'piqa' are from its split 'train', and "
    ):
        ask(tmp_path, "piqa", num_fewshot=2)
    assert ask(tmp_path, "piqa")
    with pytest.raises(UsageError, match=r"no such folder: nowhere"):
        resolve(EvaluationSettings(tasks=("piqa",), data="nowhere"))
    with pytest.raises(UsageError, match=r"no task is called 'clozze'; did you mean 'cloze'\?"):
        resolve(EvaluationSettings(tasks=("clozze",)))


def test_without_local_documents_and_without_a_network_it_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.data import hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.offline.cache_clear()
    try:
        with pytest.raises(
            UsageError, match=r"'piqa' \(baber/piqa\) cannot be loaded: HF_HUB_OFFLINE is set; .*piqa/validation"
        ):
            ask(tmp_path, "piqa")
        settings = EvaluationSettings(tasks=("piqa",))
        with pytest.raises(UsageError, match=r"name a folder with local documents instead: .*HARNESS_EVAL_DATA"):
            build(resolve(settings)[0], settings, None, None)
    finally:
        hub.offline.cache_clear()


def test_a_dataset_that_is_on_the_hub_is_loaded_through_the_library(
    documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own form, from a folder that stands for it."""
    from harness.data import hub
    from harness.evaluation import build as module

    repository = tmp_path / "repository"
    repository.mkdir()
    for split in ("train", "validation"):
        (repository / f"{split}.jsonl").write_text((documents / "piqa" / f"{split}.jsonl").read_text())
    real = hub.load
    asked: list[str] = []

    def from_folder(path: str, about: str, instead: str, **options: Any) -> Any:
        asked.append(path)
        return real(str(repository), about, instead, cache_dir=str(tmp_path / "cache"), **options)

    monkeypatch.setattr(module.hub, "load", from_folder)
    settings = EvaluationSettings(tasks=("piqa",), tier="full")
    made = build(resolve(settings)[0], settings, None, None)
    check(made)
    assert asked == ["baber/piqa"]
    assert requests(made) == requests(ask(documents, "piqa")[0])


def test_a_task_that_is_called_like_a_group_but_is_of_other_documents_does_not_take_the_groups(tmp_path: Path) -> None:
    rows = [{"question": sentence(i, 5), "choices": list("abcd"), "answer": i % 4} for i in range(4)]
    write_rows(tmp_path / "mmlu" / "anatomy" / "test.jsonl", rows)
    settings = EvaluationSettings(tasks=("mmlu_anatomy", "mmlu_redux_anatomy_generative"), data=str(tmp_path))
    [own], [other] = (asked.local for asked in resolve(settings))
    assert own is not None
    assert other is None


def test_a_task_that_judges_by_itself_need_not_have_a_right_answer(tmp_path: Path) -> None:
    """lm-eval's `simple_cooccurrence_bias` says "all" where others name a field, and never looks at it."""
    write_rows(tmp_path / "simple_cooccurrence_bias" / "test.jsonl", [{"sentence": sentence(i, 5)} for i in range(3)])
    [made] = ask(tmp_path, "simple_cooccurrence_bias")
    assert len(requests(made)["simple_cooccurrence_bias"]) == 12


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_split_may_lie_in_parts_but_only_in_all_of_them(tmp_path: Path, ending: str) -> None:
    whole = tmp_path / "whole.jsonl"
    for number in range(2):
        write_rows(whole, [MAKERS["piqa"][1](number)])
        part = tmp_path / "piqa" / f"validation-{number:05d}-of-00002{ending}"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(gzip.compress(whole.read_bytes()) if ending.endswith("gz") else whole.read_bytes())
    assert len(requests(ask(tmp_path, "piqa")[0])["piqa"]) == 4
    part.rename(part.with_name(f"validation-00002-of-00003{ending}"))
    with pytest.raises(UsageError, match=r"not the parts of one split: validation-00000-of-00002"):
        ask(tmp_path, "piqa")
