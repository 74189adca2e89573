"""Names of arms and presets: what they mean, and what is said of those that nobody has."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest
from bench_support import HERE, TOY

from harness.bench import arms, presets
from harness.bench.fit import fitted
from harness.bench.work import with_kernels
from harness.connections.kernels import native
from harness.errors import UsageError
from harness.models.presets import SCALES

ROW = presets.find("bench-d256")


def names(words: str | None, preset: presets.Preset = ROW) -> list[str]:
    return [entry.arm for entry in arms.find(words, preset)]


def test_by_default_the_arms_of_the_tables() -> None:
    assert names(None) == ["residual", "dhc-n4", "dhc-n2", "shc-n4", "dfc-m4", "sfc-m4", "mhc-n4"]


def test_the_residual_is_always_there_and_nobody_twice() -> None:
    assert names("dhc-n2, dhc-n2,residual,mhc") == ["residual", "dhc-n2", "mhc-n4"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dhc-n3", ["dhc-n3"]), ("sfc-m16", ["sfc-m16"]), ("ihc-n2", ["ihc-n2"]), ("altup-n4", ["altup-n4"]),
        ("dghc-m2-n5", ["dghc-m2-n5"]), ("mhclite-n3", ["mhclite-n3"]), ("mudd", ["mudd"]), ("ptb", ["ptb"]),
        ("ghc", ["sghc-m2-n3", "dghc-m2-n3"]), ("identity_hc", ["ihc-n4"]),
    ],
)  # fmt: skip
def test_a_tag_is_an_arm_and_a_type_its_forms(word: str, expected: list[str]) -> None:
    assert names(word)[1:] == expected
    for entry in arms.find(word, ROW)[1:]:
        assert entry.connection.tag() == entry.arm


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dhc-n44", "--arms: no connection is called 'dhc-n44'; did you mean 'dhc-n4'?"),
        ("muddd", "did you mean 'mudd'?"),
        ("?", "known: residual, dhc-n4"),
        (" , ", "--arms: names no arm"),
        ("dfc-m3", "--arms: dfc-m3: frac-rate 3 does not divide the width 256"),
    ],
)
def test_a_name_that_nobody_has_is_told_the_nearest(words: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"^--arms: ") as error:
        names(words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_presets_are_ours_and_every_scale_of_text() -> None:
    text = [name for name, scale in SCALES.items() if scale["model"].get("type") not in ("vit", "dit")]
    assert presets.names() == ["bench-toy", "bench-d256", "bench-d768", "bench-d2048", *text]
    for name in presets.names():
        found = presets.find(name)
        assert found.model.problem() is None
        assert found.model.problem_with(found.inputs) is None
        assert found.fixed == name.startswith("bench-")
    for name, width in (("bench-d256", 256), ("bench-d768", SCALES["mid"]["model"]["width"]), ("bench-d2048", 2048)):
        assert presets.find(name).model.width == width
    with pytest.raises(UsageError, match=r"^--preset: no preset is called 'bench-d25'; did you mean 'bench-d256'\?$"):
        presets.find("bench-d25")


def test_the_row_of_a_cpu_is_the_one_that_targets_are_set_for() -> None:
    model = ROW.model
    assert (model.width, model.layers, model.heads, model.context) == (256, 6, 8, 256)
    assert (ROW.batch, ROW.inputs.vocabulary, ROW.precision, ROW.tokens) == (16, 512, "fp32", 4096)


def test_the_batch_of_a_scale_is_halved_until_all_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.bench import fit

    scale, entries = presets.find("small"), arms.find("dhc-n4", ROW)
    whole = fit._need(scale, entries, HERE)
    monkeypatch.setattr(fit, "free_memory", lambda device: whole / fit.ROOM + 1)
    assert fitted(scale, entries, HERE) == scale
    monkeypatch.setattr(fit, "free_memory", lambda device: 0.4 * whole / fit.ROOM)
    less = fitted(scale, entries, HERE)
    assert less.batch in (scale.batch // 4, scale.batch // 8)
    assert fit._need(less, entries, HERE) <= 0.4 * whole
    monkeypatch.setattr(fit, "free_memory", lambda device: 1000)
    with pytest.raises(UsageError, match=r"2 models of 'small' with 1 sequences need about .* --arms names fewer"):
        fitted(scale, entries, HERE)
    with pytest.raises(UsageError, match="2 models of 'bench-d256' with 16 sequences"):
        fitted(ROW, entries, HERE)  # of this one the batch is part of the name


def test_peers_stand_in_shapes_of_ours_and_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = arms.peers(ROW)
    assert [(entry.arm, arms.rate_of(entry)) for entry in found] == [
        ("hyper-connections/hc-n4", 4), ("hyper-connections/hc-n2", 2), ("hyper-connections/mhc-n4", 4),
        ("hyper-connections/frac-m4", 4),
    ]  # fmt: skip

    def missing(package: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UsageError, match=r"^--peer: hyper-connections is not installed.*pip install [^\n]*$"):
        arms.peers(ROW)


def test_both_ways_are_two_entries_where_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = arms.find("dhc-n4,mudd", TOY)
    made = with_kernels(entries, "both", TOY, HERE)
    ways = {way: [entry.arm for entry in made if entry.kernels == way] for way in ("auto", "plain", "fused")}
    assert ways["auto"] == ["residual"]
    assert ways["plain"] == ["dhc-n4", "mudd"]
    assert ways["fused"] in ([], ["dhc-n4"])  # nothing is fused where there is no compiler
    assert len({entry.name for entry in made}) == len(made)
    assert [entry.kernels for entry in with_kernels(entries, "plain", TOY, HERE)] == ["auto", "plain", "plain"]
    monkeypatch.setenv("CC", "false")
    native._library.cache_clear()
    with pytest.raises(UsageError, match=r"^--kernels: dhc-n4: 'fused' cannot be had: no C compiler"):
        with_kernels(entries, "fused", TOY, HERE)
    native._library.cache_clear()
