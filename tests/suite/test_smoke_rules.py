"""`--smoke` keeps its stated rules for any suite, and what it makes is still a valid suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.models.settings import DecoderSettings
from harness.suite.file import load_suite
from harness.suite.schema import Suite
from harness.suite.smoke import smoke

QUICKSTART = Path(__file__).parents[2] / "suites" / "quickstart.yaml"

WIDE = """\
name: wide
baseline: residual
seeds: 5
arms:
  residual: {connection: residual}
  dfc-m8: {connection: {type: frac, rate: 8}}
model: {layers: 24, width: 1024, heads: 16, context: 2048, ffn_width: 2731}
train: {steps: 50000, batch_size: 256, lr: 1e-3, warmup_steps: 2000, validate_every: 1000, validation_tokens: 1000000,
        log_every: 50, checkpoint_every: 500}
evaluation: {limit: 1000}
"""


def assert_rules(suite: Suite) -> None:
    assert len(suite.seeds) <= 2
    assert suite.evaluation.limit <= 8
    for arm in suite.arms.values():
        assert arm.model.layers <= 4
        assert arm.model.context <= 128
        assert arm.train.steps <= 20
        assert arm.train.warmup_steps <= 2
        assert arm.train.batch_size <= 8
        assert arm.train.validation_tokens <= 2048
        assert arm.train.validate_every <= 10
        assert arm.train.checkpoint_every <= 10
        assert arm.model.problem() is None
        assert arm.train.problem() is None
        assert arm.connection.problem(arm.model.width, arm.model.sublayers) is None


def test_the_quickstart_shrinks_by_the_rules_and_keeps_its_arms_recipe_and_data() -> None:
    suite = load_suite(QUICKSTART)
    small = smoke(suite)
    assert_rules(small)
    assert small.seeds == (1, 2)
    assert list(small.arms) == list(suite.arms)
    for name, arm in small.arms.items():
        assert arm.connection == suite.arms[name].connection
        assert (arm.model.width, arm.model.heads, arm.model.layers, arm.train.lr) == (64, 4, 4, 2e-3)
    assert (small.name, small.data, small.evaluation.tasks) == (suite.name, suite.data, suite.evaluation.tasks)
    assert suite == load_suite(QUICKSTART), "the full suite is left as it was"


def test_a_wide_model_with_eight_fractions_shrinks_to_width_128(load: Callable[..., Suite]) -> None:
    small = smoke(load(text=WIDE))
    assert_rules(small)
    for arm in small.arms.values():
        assert (arm.model.width, arm.model.heads, arm.model.ffn_width, arm.model.hidden) == (128, 16, None, 352)


@pytest.mark.parametrize(
    ("heads", "rate", "width"),
    [(24, 8, 384), (16, 3, 384), (16, 12, 384), (16, 128, 128), (32, 7, 896), (16, 5, 640)],
)
def test_heads_and_rate_that_do_not_fit_128_take_its_smallest_multiple_that_they_do(
    load: Callable[..., Suite], heads: int, rate: int, width: int
) -> None:
    wide = WIDE.replace("width: 1024", f"width: {3 * 5 * 7 * 128}").replace("heads: 16", f"heads: {heads}")
    small = smoke(load(text=wide.replace("rate: 8", f"rate: {rate}")))
    assert_rules(small)
    assert small.arms["dfc-m8"].model.width == width


def test_a_suite_that_is_small_already_is_left_as_it_is(load: Callable[..., Suite]) -> None:
    small = smoke(load(text=WIDE))
    assert smoke(small) == small
    tiny = load(
        text=WIDE, overrides=["train.steps=1", "train.warmup_steps=0", "model.width=48", "model.ffn_width=32",
                              "model.heads=2", "seeds=[9]"],
    )  # fmt: skip
    arm = smoke(tiny).arms["residual"]
    assert (arm.train.steps, arm.train.warmup_steps, arm.model.width, arm.model.ffn_width) == (1, 0, 48, 32)
    assert smoke(tiny).seeds == (9,)


def test_experts_vocabulary_images_and_sampling_shrink_too() -> None:
    root = Path(__file__).parents[2] / "suites"
    for arm in smoke(load_suite(root / "paper" / "olmoe.yaml")).arms.values():
        assert isinstance(arm.model, DecoderSettings)
        assert (arm.model.experts, arm.model.experts_per_token, arm.model.vocabulary) == (8, 8, 512)
        assert arm.train.micro_batch_size is None, "of another batch"
    vision = smoke(load_suite(root / "vision.yaml"))
    assert (vision.evaluation.images, vision.evaluation.sampling_steps, vision.evaluation.samples_per_class) == (
        16,
        4,
        2,
    )
    assert {arm.train.validation_images for arm in vision.arms.values()} == {120}
    assert {arm.model.type for arm in vision.arms.values()} == {"vit", "dit"}
