"""A cell's identity changes with whatever can change its numbers and with nothing else; its streams are its seed's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from harness.connections.settings import FracSettings, HyperSettings
from harness.data.documents import Corpus, Document
from harness.data.load import load_data
from harness.data.settings import data_settings
from harness.models.settings import DecoderSettings
from harness.settings import Settings
from harness.suite.cells import Cell, by_identity, cells, stream_seeds
from harness.suite.schema import SeedStreams, Suite
from harness.training.settings import TrainSettings

ARM = "dhc"


def first_of(suite: Suite, corpus: Corpus) -> Cell:
    return next(cell for cell in cells(suite, corpus) if cell.arm == ARM)


def with_arm(suite: Suite, **changes: Any) -> Suite:
    return suite.model_copy(update={"arms": {ARM: suite.arms[ARM].model_copy(update=changes)}})


def other(settings: Settings, field: str) -> Any:
    """A value of the field that is valid and not the present one."""
    value = getattr(settings, field)
    annotation = type(settings).model_fields[field].annotation
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next(choice for choice in get_args(annotation) if choice != value)
    return {int: lambda: value * 2 + 2, float: lambda: value / 2 + 0.001, type(None): lambda: 48}[type(value)]()


def fields(kind: type[Settings]) -> list[str]:
    return [name for name in kind.model_fields if name != "type"]


@pytest.mark.parametrize("field", fields(DecoderSettings))
def test_every_setting_of_the_model_changes_the_identity(
    load: Callable[..., Suite], corpus: Corpus, field: str
) -> None:
    suite = load()
    model = suite.arms[ARM].model
    if field in ("experts_per_token", "balance_loss", "router_z_loss"):  # nothing without experts: tested below
        model = model.model_copy(update={"experts": 4})
        suite = with_arm(suite, model=model)
    changed = with_arm(suite, model=model.model_copy(update={field: other(model, field)}))
    assert first_of(changed, corpus).identity != first_of(suite, corpus).identity


@pytest.mark.parametrize("field", fields(TrainSettings))
def test_settings_of_the_training_change_the_identity_unless_they_only_log_save_or_place(
    load: Callable[..., Suite], corpus: Corpus, field: str
) -> None:
    suite = load()
    train = suite.arms[ARM].train
    changed = first_of(
        with_arm(
            suite, train=train.model_copy(update={field: 2 if field == "micro_batch_size" else other(train, field)})
        ),
        corpus,
    )
    harmless = field in {
        "log_every", "checkpoint_every", "threads", "device", "kernels", "compile", "validation_images",
    }  # fmt: skip
    assert (changed.identity == first_of(suite, corpus).identity) == harmless
    assert changed.config["train"][field] != first_of(suite, corpus).config["train"][field], "the worker must see it"


@pytest.mark.parametrize("connection", [HyperSettings(rate=2), FracSettings(rate=2)], ids=["hyper", "frac"])
def test_every_setting_of_the_connection_changes_the_identity(
    load: Callable[..., Suite], corpus: Corpus, connection: HyperSettings | FracSettings
) -> None:
    variants = [connection.model_copy(update={field: other(connection, field)}) for field in fields(type(connection))]
    every = [HyperSettings(rate=3), FracSettings(rate=3), connection, *variants]
    identities = {first_of(with_arm(load(), connection=one), corpus).identity for one in every}
    assert len(identities) == len(every)


def test_the_seed_and_every_fixed_stream_change_the_identity(load: Callable[..., Suite], corpus: Corpus) -> None:
    suite = load().model_copy(update={"streams": SeedStreams()})
    identities = {cell.identity for cell in cells(suite, corpus) if cell.arm == ARM}
    assert len(identities) == 2
    for stream in SeedStreams.model_fields:
        fixed = suite.model_copy(update={"streams": SeedStreams(**{stream: 3})})
        identities.add(first_of(fixed, corpus).identity)
    assert len(identities) == 2 + len(SeedStreams.model_fields)


def test_the_content_of_the_corpus_changes_the_identity_and_its_path_does_not(
    load: Callable[..., Suite], corpus: Corpus
) -> None:
    suite = load()
    plain = first_of(suite, corpus)
    assert first_of(suite, replace(corpus, train=(Document("a", b"other text"),))).identity != plain.identity
    assert first_of(suite, replace(corpus, valid=(Document("b", b"other text"),))).identity != plain.identity
    moved = suite.data.model_copy(update={"files": ("elsewhere.txt",), "valid_share": 0.3})
    assert first_of(suite.model_copy(update={"data": moved}), corpus).identity == plain.identity


def test_names_descriptions_and_scoring_leave_the_identity_alone(load: Callable[..., Suite], corpus: Corpus) -> None:
    plain = first_of(load(), corpus)
    same = load(
        ("name: small", "name: another\ndescription: other words"), ("limit: 8", "limit: 9\n  tasks: [cloze]"),
        ("  dhc:", "  alias:"), ("seeds: 2", "seeds: 5"), ("lr: 3e-4", "lr: 0.0003"),
    )  # fmt: skip
    alias = next(cell for cell in cells(same, corpus) if cell.arm == "alias")
    assert alias.identity == plain.identity
    assert alias.folder == plain.folder, "two suites that ask for one cell look for it in one place"
    assert alias.name == "alias-s1"
    assert plain.name == "dhc-s1"


def test_a_preset_and_its_numbers_written_out_are_the_same_cell(load: Callable[..., Suite], corpus: Corpus) -> None:
    spelt = load(
        ("scale: toy\n", "model: {layers: 12, width: 64, heads: 4, context: 64}\n"),
        ("lr: 3e-4", "lr: 3e-4\n  batch_size: 8\n  warmup_steps: 20"),
    )
    assert first_of(spelt, corpus).identity == first_of(load(), corpus).identity


def test_the_scoring_key_follows_the_limit_and_the_tasks_and_not_the_training(
    load: Callable[..., Suite], corpus: Corpus
) -> None:
    plain = first_of(load(), corpus)
    keys = {plain.evaluation}
    for new in ("limit: 9", "limit: 8\n  tasks: [cloze]", "limit: 8\n  tasks: [minimal_pairs]"):
        keys.add(first_of(load(("limit: 8", new)), corpus).evaluation)
    assert len(keys) == 4
    assert first_of(load(("lr: 3e-4", "lr: 1e-4")), corpus).evaluation == plain.evaluation


def test_streams_are_derived_from_the_seed_distinct_and_the_same_for_ever() -> None:
    seeds = [stream_seeds(seed, SeedStreams()) for seed in range(50)]
    assert all(list(one) == ["backbone", "connection", "data", "dropout"] for one in seeds)
    assert len({value for one in seeds for value in one.values()}) == 200
    assert all(0 <= value < 2**63 for one in seeds for value in one.values()), "torch takes no more"
    assert seeds[1]["backbone"] == 4033295679579630134
    assert seeds[2]["data"] == stream_seeds(2, SeedStreams(backbone=9))["data"] == 4984802342140966531


def test_a_fixed_stream_is_the_same_for_every_seed_and_leaves_the_others_alone(
    load: Callable[..., Suite], corpus: Corpus
) -> None:
    one, two = (cell.config["streams"] for cell in cells(load(), corpus) if cell.arm == ARM)
    assert one["data"] == two["data"] == 7
    assert all(one[stream] != two[stream] for stream in ("backbone", "connection", "dropout"))
    assert one["backbone"] == stream_seeds(1, SeedStreams())["backbone"]
    assert stream_seeds(1, SeedStreams(data=0))["data"] == 0, "zero is a seed, not a missing one"


def test_cells_come_seed_by_seed_and_arms_of_one_seed_share_their_streams(
    load: Callable[..., Suite], corpus: Corpus
) -> None:
    made = cells(load(), corpus)
    assert [cell.name for cell in made] == ["residual-s1", "dhc-s1", "residual-s2", "dhc-s2"]
    assert made[0].config["streams"] == made[1].config["streams"] != made[2].config["streams"]


def test_a_cell_asked_for_by_two_arms_is_trained_once_and_a_worker_gets_plain_json(
    load: Callable[..., Suite], corpus: Corpus
) -> None:
    made = cells(load(("  dhc:", "  twin: {connection: residual}\n  dhc:")), corpus)
    assert len(made) == 6
    assert [cell.name for cell in by_identity(made).values()] == ["residual-s1", "dhc-s1", "residual-s2", "dhc-s2"]
    for cell in made:
        assert json.loads(json.dumps(cell.config, allow_nan=False)) == cell.config
        assert cell.config["digests"]["data"] == corpus.digest


def test_seeds_whose_streams_are_all_fixed_are_refused(refusal: Callable[..., str]) -> None:
    said = refusal(("  data: 7", "  {backbone: 1, connection: 1, data: 1, dropout: 1}"))
    assert said.startswith("suite.yaml:")
    assert "seeds" in said


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"balance_loss": 0.5}},
        {"model": {"experts_per_token": 3}},
        {"model": {"kv_heads": 4}},
        {"train": {"micro_batch_size": 8}},
    ],
    ids=str,
)
def test_what_changes_no_number_changes_no_identity(
    load: Callable[..., Suite], corpus: Corpus, change: dict[str, dict[str, Any]]
) -> None:
    """No experts, as many heads of keys as of queries, one micro-batch."""
    suite = load()
    arm = suite.arms[ARM]
    changed = {section: getattr(arm, section).model_copy(update=values) for section, values in change.items()}
    assert first_of(with_arm(suite, **changed), corpus).identity == first_of(suite, corpus).identity


VISION = """\
name: small
baseline: vit
seeds: 1
data: {corpus: digits}
model: {type: vit, layers: 2, width: 16, heads: 2, patch: 2}
train: {steps: 9, batch_size: 4, lr: 1e-3}
arms:
  vit: {connection: residual}
  dit: {connection: residual, baseline: dit, model: {type: dit}}
"""


def test_cells_of_images_have_the_keys_that_matter_to_them(load: Callable[..., Suite]) -> None:
    plain, digits = load(text=VISION), load_data(data_settings(corpus="digits"))

    def keys(*overrides: str) -> list[tuple[str, str]]:
        return [(cell.identity, cell.evaluation) for cell in cells(load(text=VISION, overrides=overrides), digits)]

    (vit, dit), (seen, drawn) = zip(*keys(), strict=True)
    assert vit != dit
    assert keys("data.augment=flip")[0][0] != vit
    assert keys("train.validation_images=7")[0][0] != vit
    assert keys("train.validation_tokens=77", "evaluation.limit=3") == [(vit, seen), (dit, drawn)]
    for key in ("guidance=3.0", "sampling_steps=7", "samples_per_class=2", "images=9"):
        changed = keys(f"evaluation.{key}")
        assert changed[0] == (vit, seen), "a classifier is judged alike"
        assert changed[1][0] == dit
        assert changed[1][1] != drawn
    assert plain.evaluation.tasks == ()
