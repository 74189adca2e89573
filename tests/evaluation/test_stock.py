"""lm-eval's tasks are found by name without lm-eval: the same names, files and members as in its own index."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import UsageError
from harness.evaluation.stock import _index, find, known

NAMED = [
    "hellaswag", "piqa", "arc_easy", "arc_challenge", "openbookqa", "sciq", "winogrande", "boolq", "copa",
    "commonsense_qa", "social_iqa", "mmlu", "lambada_openai", "wikitext", "blimp", "blimp_adjunct_island",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_the_tasks_of_the_field_are_known_by_their_names(name: str) -> None:
    assert known(name)
    found = find(name)
    assert found.leaves
    assert all(leaf.config.get("output_type") for leaf in found.leaves)
    assert all(leaf.config.get("test_split") or leaf.config.get("validation_split") for leaf in found.leaves)


def test_groups_have_their_members_and_what_is_below_them() -> None:
    blimp = find("blimp")
    assert len(blimp.leaves) == 67
    assert [group.name for group in blimp.groups] == ["blimp"]
    assert {leaf.parents for leaf in blimp.leaves} == {("blimp",)}
    mmlu = find("mmlu")
    assert len(mmlu.leaves) == 57
    assert mmlu.groups[0].name == "mmlu"
    assert mmlu.groups[0].members == ("mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities")
    assert sum(len(group.members) for group in mmlu.groups[1:]) == 57
    [algebra] = [leaf for leaf in mmlu.leaves if leaf.name == "mmlu_abstract_algebra"]
    assert algebra.parents == ("mmlu", "mmlu_stem", "mmlu_stem_tasks")
    assert algebra.config["dataset_name"] == "abstract_algebra"


def test_a_tag_is_its_tasks_also_where_they_have_it_from_a_file_that_they_include() -> None:
    assert [leaf.name for leaf in find("ai2_arc").leaves] == ["arc_challenge", "arc_easy"]
    assert find("ai2_arc").groups == ()


def test_what_a_group_overrides_reaches_its_members() -> None:
    shots = {leaf.name: leaf.config.get("num_fewshot") for leaf in find("openllm").leaves}
    assert (shots["arc_challenge"], shots["hellaswag"], shots["mmlu_anatomy"]) == (25, 10, 5)
    assert find("hellaswag").leaves[0].config.get("num_fewshot") is None


@pytest.mark.parametrize(
    ("name", "near"),
    [("piqqa", "did you mean 'piqa'?"), ("hela_swag", "did you mean 'hellaswag'?"), ("arc", "there are arc_easy")],
)
def test_an_unknown_name_is_one_line_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(name)
    assert str(caught.value).startswith(f"evaluation.tasks: no task is called '{name}'")
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_functions_are_text_until_somebody_reads_them_with_functions() -> None:
    config = find("hellaswag").leaves[0].config
    assert config["process_docs"] == "!function utils.process_docs"


def test_finding_imports_neither_lm_eval_nor_torch() -> None:
    code = (
        "import sys; from harness.evaluation.stock import find; find('blimp'); find('mmlu');"
        "print(*sorted({'lm_eval', 'torch', 'datasets', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "yaml\n"


def test_a_digest_changes_with_the_question() -> None:
    easy, challenge = find("arc_easy").leaves[0], find("arc_challenge").leaves[0]
    assert easy.digest == find("arc_easy").leaves[0].digest
    assert easy.digest != challenge.digest


@pytest.mark.slow
def test_all_names_and_files_are_those_of_lm_evals_own_index() -> None:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Kind

    theirs = {name: entry for name, entry in TaskManager().task_index.items() if entry.kind != Kind.TAG}
    ours = _index()
    assert ours.keys() == theirs.keys()
    for name, (kind, path) in ours.items():
        assert path == theirs[name].yaml_path, name
        assert (kind == "group") == (theirs[name].kind == Kind.GROUP), name


@pytest.mark.slow
def test_tags_have_the_tasks_that_lm_eval_gives_them() -> None:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Kind

    tags = {name: entry.tags for name, entry in TaskManager().task_index.items() if entry.kind == Kind.TAG}
    named = ["ai2_arc", "mmlu_stem_tasks", "lambada", "super-glue-lm-eval-v1"]
    chosen = [*named, *sorted(tags)[:: max(1, len(tags) // 25)]]
    for tag in chosen:
        assert {leaf.name for leaf in find(tag).leaves} == tags[tag], tag
