"""Models, scales and baselines of single arms, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.inputs import ImageInputs, TextInputs
from harness.errors import UsageError
from harness.models.settings import DecoderSettings, DiTSettings, ViTSettings
from harness.suite.file import SuiteFile
from harness.suite.schema import Suite

VISION = """\
name: small
baseline: vit
seeds: 2
data: {corpus: digits}
model: {type: vit, layers: 2, width: 16, heads: 2, patch: 2}
train: {steps: 9, batch_size: 4, lr: 1e-3, warmup_steps: 2}
arms:
  vit: {connection: residual}
  vit-dhc:
    connection: {type: hyper, rate: 2}
  dit:
    connection: residual
    baseline: dit
    model: {type: dit, timesteps: 50}
  dit-dhc:
    connection: {type: hyper, rate: 2}
    baseline: dit
    scale: dit-toy
    model: {type: dit}
"""
Load = Callable[..., Suite]
Refusal = Callable[..., str]


def test_an_arm_has_its_own_model_scale_and_baseline(load: Load) -> None:
    suite = load(text=VISION)
    assert isinstance(suite.arms["vit"].model, ViTSettings)
    dit, scaled = suite.arms["dit"].model, suite.arms["dit-dhc"]
    assert isinstance(dit, DiTSettings)
    assert (dit.timesteps, dit.width, dit.patch) == (50, 16, 2), "the suite's section reaches the arm"
    assert (scaled.model.width, scaled.train.steps) == (16, 9), "the suite's sections go before the arm's scale"
    assert [suite.baseline_of(arm) for arm in suite.arms] == ["vit", "vit", "dit", "dit"]
    assert suite.baselines() == ["vit", "dit"]
    assert suite.evaluation.tasks == (), "the text's tasks are no default of images"


def test_a_decoder_is_what_a_model_is_without_a_type(load: Load) -> None:
    suite = load(("train:\n", "model: {experts: 4, kv_heads: 2}\ntrain:\n"))
    model = suite.arms["residual"].model
    assert isinstance(model, DecoderSettings)
    assert (model.experts, model.key_heads, model.hidden) == (4, 2, 96), "half of 8/3 of 64, for two experts a token"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("type: vit", "type: vti"), "suite.yaml:5: model.type: unknown model 'vti'; did you mean 'vit'?"),
        (("patch: 2", "patsh: 2"), "suite.yaml:5: model.patsh: unknown key; did you mean 'patch'?"),
        (("patch: 2", "patch: 2, context: 9"), "suite.yaml:5: model.context: unknown key"),
        (("timesteps: 50", "timesteps: 1"), "suite.yaml:14: arms.dit.model.timesteps: input should be greater than"),
        (("corpus: digits", "corpus: stdlib"),
         "suite.yaml:5: model.type: a 'vit' learns from images, and the corpus 'stdlib' is text; for it: decoder"),
        (("corpus: digits", "corpus: digits, image_size: 8"), "suite.yaml:4: data.image_size: the corpus 'digits' has no key"),
        (("corpus: digits", "corpus: cifar10"), "suite.yaml:4: data.files: the corpus 'cifar10' needs one folder"),
        (("    baseline: dit\n    model", "    baseline: dti\n    model"),
         "suite.yaml:13: arms.dit.baseline: no arm is called 'dti'; did you mean 'dit'?"),
        (("    baseline: dit\n    model", "    baseline: vit-dhc\n    model"),
         "arms.dit.baseline: 'vit-dhc' is itself compared with 'vit'; a baseline is its own baseline"),
        (("    baseline: dit\n    scale", "    baseline: vit-dhc\n    scale"),
         "arms.dit-dhc.baseline: 'vit-dhc' is itself compared with 'vit'; a baseline is its own baseline"),
        (("scale: dit-toy", "scale: dit-toi"), "arms.dit-dhc.scale: unknown scale 'dit-toi'; did you mean 'dit-toy'?"),
        (("    scale: dit-toy\n    model: {type: dit}", "    scale: dit-toy\n    model: {type: [dit]}"),
         "arms.dit-dhc.model.type: unknown model '['dit']'"),
        (("scale: dit-toy", "scale: toy"),
         "arms.dit-dhc.model.type: a scale for the model 'decoder' does not shape a 'dit'"),
        (("train:", "evaluation: {tasks: [cloze]}\ntrain:"), "evaluation.tasks: tasks are for text"),
        (("batch_size: 4", "batch_size: 4, micro_batch_size: 5"),
         "train.micro_batch_size: 5 examples are more than the batch of 4"),
        (("width: 16", "width: 18"), "heads"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_wrong_model_is_one_line(change: tuple[str, str], message: str, refusal: Refusal) -> None:
    if change[1] == "width: 18":
        message, change = (
            "model.width: fixed positions in two directions",
            ("width: 16, heads: 2", "width: 18, heads: 2"),
        )
    found = refusal(change, text=VISION)
    assert message in found
    if "unknown" in message:
        assert found.count("\n") <= 1, "a key of the suite's section is not reported for every arm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("kv_heads: 3", "model.kv_heads: 3 heads of keys and values do not divide the 4 heads"),
        ("experts: 4, experts_per_token: 5", "model.experts_per_token: there are 4 experts, not 5"),
        ("experts: 4, ffn_width: 12", "model.experts: grouped products need widths that 8 divides: 64, 12"),
    ],
)
def test_a_decoder_whose_numbers_do_not_fit_is_one_line(change: str, message: str, refusal: Refusal) -> None:
    assert message in refusal(("train:\n", f"model: {{{change}}}\ntrain:\n"))


@pytest.mark.parametrize("connection", ["post_norm", "resi_dual", "mudd", "{type: rezero, norm: false}"])
def test_a_connection_that_moves_norms_is_refused_for_reordered_ones(connection: str, refusal: Refusal) -> None:
    found = refusal(("      type: hyper\n      rate: 4\n", ""), ("    connection:\n", f"    connection: {connection}\n"),
                    ("train:\n", "model: {norm_position: after}\ntrain:\n"))  # fmt: skip
    assert "arms.dhc.connection" in found
    assert "puts the norm before a branch elsewhere" in found


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [
        (VISION, ImageInputs(9, 1, 10), "model.patch: patches of 2 pixels do not divide images of 9"),
        (VISION, TextInputs(257), "a vit learns from images"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_one_line(
    text: str, inputs: ImageInputs | TextInputs, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    file = SuiteFile(path, [])
    with pytest.raises(UsageError, match=message):
        file.check_inputs(file.resolve(), inputs)


def test_a_vocabulary_below_the_tokenizers_is_refused(tmp_path: Path, load: Load) -> None:
    load(("train:\n", "model: {vocabulary: 100}\ntrain:\n"))
    file = SuiteFile(tmp_path / "suite.yaml", ["model.vocabulary=100"])
    with pytest.raises(UsageError, match=r"command line: model\.vocabulary: 100 is less than the 257 tokens"):
        file.check_inputs(file.resolve(), TextInputs(257, 256))
