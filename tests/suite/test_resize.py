"""Arms in another size: what is solved for by formula is what is built, and what cannot be solved is said in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import main
from harness.data.documents import Corpus
from harness.data.inputs import ImageInputs, Inputs, TextInputs
from harness.errors import UsageError
from harness.models import cost
from harness.models.build import build
from harness.suite.cells import cells
from harness.suite.estimate import Machine, table_machine
from harness.suite.file import load_suite
from harness.suite.resize import FINE, TOLERANCE, Resized, resized
from harness.suite.schema import Arm, Suite
from harness.suite.smoke import smoke

Load = Callable[..., Suite]
Refusal = Callable[..., str]
ROOT = Path(__file__).parents[2]
TEXT = TextInputs(257, 256)
IMAGES = ImageInputs(8, 1, 10)
SUITE = """\
name: sized
baseline: residual
seeds: 1
scale: toy
arms:
  residual: {connection: residual}
  dhc: {connection: {type: hyper, rate: 4}}
  sized:
    connection: residual
    resize: {match: params, arm: dhc}
model: {dropout: 0.0}
"""
PARAMS = "{match: params, arm: dhc}"


def built(arm: Arm, inputs: Inputs) -> int:
    """Parameters of the real model, counted."""
    model = build(arm.model, arm.connection, inputs, backbone_seed=1, connection_seed=2)
    return sum(parameter.numel() for parameter in model.parameters())


def flops(arm: Arm) -> int:
    return cost.training_flops(arm.model, arm.connection, TEXT)


def about(value: float) -> object:
    return pytest.approx(value, rel=FINE)


@pytest.mark.parametrize("by", ["width", "depth"])
@pytest.mark.parametrize("model", ["dropout: 0.0", "qk_norm: true, tied: false, kv_heads: 2", "norm_type: layer_norm"])
def test_as_many_parameters_are_built_as_the_other_arm_has(load: Load, by: str, model: str) -> None:
    before = load((PARAMS, f"{{match: params, arm: dhc, by: {by}}}"), ("dropout: 0.0", model), text=SUITE)
    suite = resized(before, TEXT)
    sized, dhc = suite.arms["sized"], suite.arms["dhc"]
    assert built(sized, TEXT) == about(built(dhc, TEXT))
    assert built(sized, TEXT) != built(before.arms["sized"], TEXT)
    assert (sized.model.width, sized.model.layers) == (64, 12), "two per cent are the feed-forward's to give"
    assert sized.model.model_copy(update={"ffn_width": None}) == before.arms["sized"].model
    assert suite.arms["residual"] == before.arms["residual"]
    assert isinstance(sized.resize, Resized)
    assert (sized.resize.wanted, sized.resize.reached) == (built(dhc, TEXT), built(sized, TEXT))


@pytest.mark.parametrize(("rate", "by"), [(4, "width"), (4, "depth"), (8, "width"), (8, "depth")])
def test_memory_is_that_of_a_step_of_the_other_arm(load: Load, rate: int, by: str) -> None:
    text = SUITE.replace("rate: 4", f"rate: {rate}").replace(PARAMS, f"{{match: memory, arm: dhc, by: {by}}}")
    arms = resized(load(text=text), TEXT).arms
    here = Machine(name="here", place="cpu")
    assert here.memory(arms["sized"], TEXT).total == about(here.memory(arms["dhc"], TEXT).total)
    changed, kept = ("width", "layers") if by == "width" else ("layers", "width")
    assert getattr(arms["sized"].model, changed) > getattr(arms["dhc"].model, changed)
    assert getattr(arms["sized"].model, kept) == getattr(arms["dhc"].model, kept)
    own, usual = arms["sized"].model, arms["residual"].model
    assert own.hidden / own.width == pytest.approx(usual.hidden / usual.width, rel=0.15), "of the usual proportions"
    assert own.problem() is None


def test_memory_on_a_chip_goes_by_its_rules(load: Load) -> None:
    arms = resized(load((PARAMS, "{match: memory, arm: dhc, device: h100}"), text=SUITE), TEXT).arms
    chip = table_machine("h100", 1, False, None)
    assert chip.memory(arms["sized"], TEXT).total == about(chip.memory(arms["dhc"], TEXT).total)
    elsewhere = resized(load((PARAMS, "{match: memory, arm: dhc}"), text=SUITE), TEXT).arms
    assert elsewhere["sized"].model != arms["sized"].model


def test_time_is_that_of_a_step_on_a_chip_or_a_ratio_that_was_measured(load: Load) -> None:
    def arms(resize: str) -> dict[str, Arm]:
        return resized(load((PARAMS, resize), text=SUITE), TEXT).arms

    for device in ("h100", "a10"):
        chip, found = table_machine(device, 1, False, None), arms(f"{{match: time, arm: dhc, device: {device}}}")
        assert chip.step(found["sized"], TEXT) == about(chip.step(found["dhc"], TEXT))  # type: ignore[arg-type]
        assert flops(found["sized"]) > flops(found["dhc"]), "traffic takes time that the residual spends on products"
    usual = arms("{match: time, arm: dhc}")["sized"].model
    assert usual == arms("{match: time, arm: dhc, device: h100}")["sized"].model
    assert usual != arms("{match: time, arm: dhc, device: a10}")["sized"].model
    found = arms("{match: time, arm: dhc, ratio: 1.7}")
    assert flops(found["sized"]) == about(1.7 * flops(found["residual"]))
    found = arms("{match: time, arm: dhc, ratio: 0.5, by: depth}")
    assert flops(found["sized"]) == about(0.5 * flops(found["residual"]))
    assert found["sized"].model.layers < 8, "smaller is a size too"


@pytest.mark.parametrize(
    ("model", "inputs", "data"),
    [
        ("{layers: 6, width: 64, heads: 4, context: 64, experts: 4}", TEXT, "{corpus: stdlib}"),
        ("{type: vit, layers: 6, width: 64, heads: 4, patch: 2}", IMAGES, "{corpus: digits}"),
        ("{type: dit, layers: 6, width: 64, heads: 4, patch: 2}", IMAGES, "{corpus: digits}"),
    ],
    ids=["experts", "vit", "dit"],
)
@pytest.mark.parametrize("by", ["width", "depth"])
def test_models_of_every_kind_are_resized(load: Load, model: str, inputs: Inputs, data: str, by: str) -> None:
    text = f"""\
name: kinds
baseline: residual
seeds: 1
arms:
  residual: {{connection: residual}}
  large: {{connection: residual, model: {{layers: 9, ffn_width: 320}}}}
  sized:
    connection: {{type: frac, rate: 2}}
    resize: {{match: params, arm: large, by: {by}}}
model: {model}
train: {{steps: 10, batch_size: 8, lr: 1e-3}}
data: {data}
"""
    arms = resized(load(text=text), inputs).arms
    assert built(arms["sized"], inputs) == pytest.approx(built(arms["large"], inputs), rel=TOLERANCE)
    sized = arms["sized"].model
    assert sized.problem() is arms["sized"].connection.problem(sized.width, sized.sublayers) is None


def test_a_size_is_as_heads_and_connection_allow(load: Load) -> None:
    """Rotary positions need an even head width, seven fractions a width that seven divides."""
    text = SUITE.replace("arm: dhc", "arm: large")
    text = text.replace("  sized:\n    connection: residual", "  sized:\n    connection: {type: frac, rate: 7}")
    text = text.replace("dropout: 0.0", "width: 56")
    text = text.replace("  dhc:", "  large: {connection: residual, model: {width: 200}}\n  dhc:")
    sized = resized(load(text=text), TEXT).arms["sized"]
    assert sized.model.width % 56 == 0
    assert sized.model.width > 56
    assert built(sized, TEXT) == pytest.approx(built(resized(load(text=text), TEXT).arms["large"], TEXT), rel=TOLERANCE)


def test_the_identity_of_a_resized_cell_is_that_of_its_size_and_changes_with_the_target(
    load: Load, corpus: Corpus
) -> None:
    def identities(suite: Suite) -> dict[str, str]:
        return {cell.arm: cell.identity for cell in cells(suite, corpus)}

    found = identities(resized(load(text=SUITE), TEXT))
    by_hand = SUITE.replace("    resize: {match: params, arm: dhc}\n", "    model: {ffn_width: 182}\n")
    assert found["sized"] == identities(load(text=by_hand))["sized"]
    other = identities(resized(load(("rate: 4", "rate: 8"), text=SUITE), TEXT))
    assert other["residual"] == found["residual"]
    assert other["sized"] != found["sized"]


def test_what_is_resized_already_stays(load: Load) -> None:
    suite = resized(load((PARAMS, "{match: time, arm: dhc, ratio: 2}"), text=SUITE), TEXT)
    assert resized(suite, TEXT) == suite


@pytest.mark.parametrize(
    ("resize", "message"),
    [
        ("{match: params, arm: dch}", ".arm: no arm is called 'dch'; did you mean 'dhc'?"),
        ("{match: params, arm: sized}", ".arm: an arm already costs what it costs itself; name another"),
        ("{match: parms, arm: dhc}", ".match: 'parms' is none of 'params', 'memory' or 'time'"),
        ("{match: params, amr: dhc}", ".amr: unknown key; did you mean 'arm'?"),
        ("{match: params, arm: dhc, by: layers}", ".by: 'layers' is none of 'width' or 'depth'"),
        ("{match: time, arm: dhc, ratio: 0}", ".ratio: input should be greater than 0, got 0"),
        ("{match: time, arm: dhc, ratio: '2'}", ".ratio: input should be a valid number, got '2'"),
        ("{match: memory, arm: dhc, ratio: 2}", ".ratio: is of times, and this matches memory"),
        ("{match: time, arm: dhc, device: h101}", ".device: no chip 'h101' in the table; did you mean"),
        ("{match: params, arm: dhc, device: h100}", ".device: parameters are the same everywhere"),
        ("{match: time, arm: dhc, device: h100, ratio: 2}", ".device: with a ratio nothing is reckoned for a chip"),
        ("params", ": input should be a valid dictionary or instance of Resize, got 'params'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line_with_file_line_and_key(refusal: Refusal, resize: str, message: str) -> None:
    said = refusal((PARAMS, resize), text=SUITE)
    assert said.startswith(f"suite.yaml:10: arms.sized.resize{message}")
    assert "\n" not in said


def test_a_target_has_its_size_from_the_file(refusal: Refusal) -> None:
    text = SUITE + "  # nothing\n"
    text = text.replace("model:", "  chained: {connection: residual, resize: {match: params, arm: sized}}\nmodel:")
    assert "arms.chained.resize.arm: 'sized' is itself resized" in refusal(text=text)


def test_a_target_that_no_size_meets_is_said_with_how_near_it_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.replace(PARAMS, "{match: time, arm: dhc, ratio: 0.001}"))
    assert main(["plan", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{path}:10: arms.sized.resize: no size comes within 1% of 0.001 times its own FLOPs" in said
    assert "the nearest, width 8 and ffn_width 1, has" in said
    assert said.count("\n") == 1


def test_a_chip_without_the_precision_is_refused(load: Load) -> None:
    suite = load((PARAMS, "{match: time, arm: dhc, device: t4}"), text=SUITE + "train: {precision: bf16}\n")
    with pytest.raises(UsageError, match=r"arms\.sized\.resize\.device: T4 has no bf16"):
        resized(suite, TEXT)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[residual, sizd]", "ladder.1: no arm is called 'sizd'; did you mean 'sized'?"),
        ("[residual, residual]", "ladder.1: 'residual' stands there twice"),
        ("residual", "ladder: must be a list, got 'residual'"),
    ],
)
def test_a_ladder_names_arms_each_once(refusal: Refusal, load: Load, written: str, message: str) -> None:
    assert refusal(text=f"{SUITE}ladder: {written}\n") == f"suite.yaml:12: {message}"
    longer = SUITE.replace("  dhc:", "  longer: {connection: residual, train: {steps: 900}}\n  dhc:")
    assert load(text=f"{longer}ladder: [residual, longer, sized]\n").ladder == ("residual", "longer", "sized")
    assert "ladder: a curve is fitted to 3 budgets at least" in refusal(text=f"{SUITE}ladder: [residual, sized]\n")
    said = refusal(text=f"{SUITE}ladder: [residual, dhc]\n")
    assert "ladder.1: a ladder is one connection under several budgets" in said


def test_one_arm_stands_for_the_baseline_at_another_arms_costs(refusal: Refusal, load: Load) -> None:
    assert load(text=SUITE).twin_of("sized") == ("params", "dhc")
    second = SUITE.replace(
        "  dhc:", "  again:\n    connection: residual\n    resize: {match: params, arm: dhc}\n  dhc:"
    )
    said = refusal(text=second)
    assert "resize.arm: 'again' has been resized to the params of 'dhc' already" in said or "'sized' has been" in said
    other = second.replace("  again:\n    connection: residual", "  again:\n    connection: {type: frac, rate: 2}")
    assert load(text=other).twin_of("again") is None, "of another kind than the baseline it stands for itself"


def test_a_margin_is_a_size_of_loss(refusal: Refusal, load: Load) -> None:
    assert "margin: input should be greater than 0, got 0" in refusal(text=f"{SUITE}margin: 0\n")
    assert (load(text=SUITE).margin, load(text=f"{SUITE}margin: 2e-2\n").margin) == (0.005, 0.02)


def test_the_plan_tells_what_became_of_an_arm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    assert main(["plan", str(path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "is resized" in line]
    assert line == ("sized is resized: ffn_width 182 (was 176): 633,984 parameters, +0.14% off the parameters of dhc")
    assert main(["plan", str(path), "--json"]) == 0
    arms = {arm["arm"]: arm for arm in json.loads(capsys.readouterr().out)["arms"]}
    assert arms["residual"]["resized"] is None
    done = arms["sized"]["resized"]
    assert (done["match"], done["arm"], done["by"]) == ("params", "dhc", "width")
    assert done["before"] == {"layers": 12, "width": 64, "ffn_width": 176}
    assert (done["layers"], done["width"], done["ffn_width"]) == (12, 64, 182)
    assert (done["reached"], done["wanted"]) == (arms["sized"]["parameters"], arms["dhc"]["parameters"])
    assert done["off"] == pytest.approx(done["reached"] / done["wanted"] - 1)


def test_the_suite_that_asks_whether_it_pays_resizes_whole_and_shrunk() -> None:
    whole = load_suite(ROOT / "suites" / "does_it_pay.yaml")
    assert (whole.margin, len(whole.ladder)) == (0.01, 4)
    budgets = [whole.arms[name].train.steps for name in whole.ladder]
    assert budgets == [200, 400, 800, 1600]
    assert [smoke(whole).arms[name].train.steps for name in whole.ladder] == [2, 5, 10, 20], "still a ladder"
    for suite in (resized(whole, TEXT), resized(smoke(whole), TEXT)):
        arms = suite.arms
        assert built(arms["residual-params"], TEXT) == about(built(arms["dhc-n4"], TEXT))
        here = Machine(name="here")
        assert here.memory(arms["residual-memory"], TEXT).total == about(here.memory(arms["dhc-n4"], TEXT).total)
        assert flops(arms["residual-time"]) == about(2.3 * flops(arms["residual"]))
    assert resized(smoke(whole), TEXT).arms["residual-time"].model.layers == 4
