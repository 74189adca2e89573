"""Twelve bugs, each one changed line of the package's own code: every one is found by a law.

Those marked `quiet` leave shapes, causality and the function at initialisation as they were, so that tests of these
three would not see them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import harness.connections
from harness.conform.hold import failed, hold, hold_law
from harness.conform.laws import LAWS
from harness.conform.ours import own_subject
from harness.connections.settings import CONNECTIONS, ConnectionSettings, FracSettings, HyperSettings

FOLDER = Path(harness.connections.__file__).parent
PARTS = (
    "base", "kernels.stack", "sinkhorn", "coefficients", "hyper", "frac", "generalized", "manifold", "residual", "laurel", "streams", "dense",
    "attention", "mudd",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One line of one file, and the law that must see the difference."""

    name: str
    settings: ConnectionSettings
    file: str
    line: str
    instead: str
    law: str
    quiet: bool


DHC, DFC = HyperSettings(rate=4), FracSettings(rate=4)
MUTANTS = [
    Mutant(
        "A_r dropped", DHC, "hyper",
        "return self.mix(h_BTND)",
        "mix, beta = self.mix(h_BTND); return torch.cat([mix[..., :1, :], h_BTND], dim=-2), beta",
        "carry_applied", quiet=True,
    ),
    Mutant(
        "A_r transposed", DHC, "coefficients",
        "return alpha_BTRC.transpose(-1, -2) @ h_BTRW",
        "return torch.cat([alpha_BTRC[..., :1], alpha_BTRC[..., 1:].mT], dim=-1).mT @ h_BTRW",
        "carry_orientation", quiet=True,
    ),
    Mutant(
        "A_m uniform", DHC, "hyper",
        'read[layer_id % rate if stagger == "cyclic" else 0] = 1.0',
        "read[:] = 1 / rate",
        "symmetry_broken", quiet=True,
    ),
    Mutant(
        "streams collapsed in every block", DHC, "base",
        "h = cast(SublayerConnection, module).connect(h, branch)",
        "h = cast(SublayerConnection, module).connect(h.mean(dim=-2, keepdim=True).expand_as(h), branch)",
        "streams_persist", quiet=True,
    ),
    Mutant(
        "fractions scrambled", DFC, "frac",
        "return mix[..., : self.rate, :].flatten(-2).clone()",
        "return mix[..., : self.rate, :].transpose(-1, -2).flatten(-2)",
        "rows_kept_whole", quiet=False,
    ),
    Mutant(
        "beta dense instead of element-wise", DFC, "frac",
        "out_BTMW = out_BTD.unflatten(-1, (self.rate, -1))",
        "out_BTMW = out_BTD.unflatten(-1, (self.rate, -1)).sum(dim=-2, keepdim=True)",
        "write_applied", quiet=False,
    ),
    Mutant(
        "wrong scale", DHC, "coefficients",
        "SCALE_AT_START = 0.01",
        "SCALE_AT_START = 0.1",
        "dynamic_bound", quiet=True,
    ),
    Mutant(
        "layer index counted by block", DHC, "hyper",
        "HyperConnection(dim, settings.rate, k, **switches)",
        "HyperConnection(dim, settings.rate, k // 2, **switches)",
        "stagger", quiet=True,
    ),
    Mutant(
        "first stream instead of the sum", DHC, "hyper",
        "return sum_streams(h_BTND)",
        "return h_BTND[..., 0, :]",
        "collapse_undoes_expand", quiet=False,
    ),
    Mutant(
        "norm over the wrong axis", DHC, "coefficients",
        "raw = self.norm(h_BTRW) @",
        "raw = nn.functional.layer_norm(h_BTRW.mT, h_BTRW.shape[-2:-1]).mT @",
        "dynamic_rows", quiet=True,
    ),
    Mutant(
        "decay on the static part", DHC, "coefficients",
        'DECAYED = frozenset({"dynamic_alpha_fn", "dynamic_beta_fn"})',
        'DECAYED = frozenset({"dynamic_alpha_fn", "dynamic_beta_fn", "static_alpha"})',
        "decay_groups", quiet=True,
    ),
    Mutant(
        "tanh missing", DHC, "coefficients",
        "raw = torch.tanh(raw)",
        "raw = 1.0 * raw",
        "dynamic_bound", quiet=True,
    ),
]  # fmt: skip

MHC = CONNECTIONS["mhc"]()


def relative(name: str, kind: str, raw: dict[str, Any], file: str, line: str, instead: str, law: str) -> Mutant:
    return Mutant(name, CONNECTIONS[kind].model_validate(raw), file, line, instead, law, quiet=True)


RELATIVES = [
    relative("mixer transposed", "mhc", {}, "sinkhorn", "return (scaled * u).movedim((0, 1), (-2, -1))",
             "return (scaled * u).movedim((1, 0), (-2, -1))", "mixer_orientation"),
    relative("permutations transposed", "mhc_lite", {}, "manifold", "torch.eye(rate)[torch.tensor(orders)].flatten(1)",
             "torch.eye(rate)[torch.tensor(orders)].mT.flatten(1)", "mixer_orientation"),
    relative("norm of every stream", "mhc", {}, "manifold", "projected = (flat @ self.phi) * inverse_rms(flat, EPS)",
             "projected = (h_BTND * inverse_rms(h_BTND, EPS)).flatten(-2) @ self.phi", "dynamic_whole"),
    relative("no norm", "identity_hc", {}, "manifold", "projected = (flat @ self.phi) * inverse_rms(flat, EPS)",
             "projected = flat @ self.phi", "dynamic_whole"),
    relative("tanh added", "mhc", {}, "manifold", "projected = (flat @ self.phi) * inverse_rms(flat, EPS)",
             "projected = torch.tanh((flat @ self.phi) * inverse_rms(flat, EPS))", "dynamic_whole"),
    relative("home stream by block", "mhc", {}, "manifold", "pre[layer_id % rate] = 3.0", "pre[layer_id // 2 % rate] = 3.0",
             "stagger"),
    relative("one round of Sinkhorn", "mhc", {}, "sinkhorn", "for _ in range(iterations):", "for _ in range(1):",
             "doubly_stochastic"),
    relative("ways swapped", "mudd", {}, "mudd", "query, key, value, residual = ways", "key, query, value, residual = ways",
             "equations"),
    relative("history of averages", "denseformer", {}, "dense", "history.append(x_BTD.to(work))",
             "history.append(history[-1] * 0 + x_BTD.to(work) * 1.001)", "start_function"),
    relative("dilation ignored", "denseformer", {"dilation": 2}, "dense", "history[i % self.dilation :: self.dilation]",
             "history[-len(self.weights[str(i)]) :]", "equations"),
    relative("the first stream computed always", "altup", {}, "streams", "AltUpBlock(self.rate, b % self.rate)",
             "AltUpBlock(self.rate, 0)", "equations"),
    relative("beta on the state alone", "laurel", {}, "laurel", "(beta * self.read(states)) @ self.up",
             "self.read(states) @ self.up", "equations"),
    relative("key norms left out", "attention_residuals", {}, "attention", "(self.queries * self.norms)", "(self.queries * 1.0)",
             "equations"),
    relative("slots written by the transpose", "ghc", {"fractions": 2, "slots": 2}, "generalized",
             "transposed_product(beta.transpose(-1, -2), out_BTMW)", "transposed_product(beta, out_BTMW)", "write_applied"),
]  # fmt: skip


def mutated(mutant: Mutant) -> Callable[[int, int], Any]:
    """Builds stacks from the connections' source with that one line changed. The package itself is left alone."""
    originals = {f"harness.connections.{part}": sys.modules[f"harness.connections.{part}"] for part in PARTS}
    try:
        for part in PARTS:
            source = (FOLDER / f"{part.replace('.', '/')}.py").read_text(encoding="utf-8")
            if part == mutant.file:
                assert source.count(mutant.line) == 1, f"{part}.py has changed: {mutant.line}"
                source = source.replace(mutant.line, mutant.instead)
            module = ModuleType(f"harness.connections.{part}")
            sys.modules[module.__name__] = module
            exec(compile(source, f"{part}.py, mutated", "exec"), module.__dict__)
        changed = {name: sys.modules[name] for name in originals}
    finally:
        sys.modules.update(originals)

    def make(dim: int, sublayers: int) -> Any:
        try:
            sys.modules.update(changed)  # the settings import the stack when they build it
            return mutant.settings.build(dim, sublayers)
        finally:
            sys.modules.update(originals)

    return make


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    for part in PARTS:
        importlib.import_module(f"harness.connections.{part}")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_planted_bug_is_found_by_the_law_that_concerns_it(mutant: Mutant) -> None:
    subject = own_subject(mutant.settings, make=mutated(mutant))
    found = hold_law(subject, LAWS[mutant.law])
    assert found.verdict == "fail", found
    assert not found.evidence.startswith("raises"), found
    usual = [hold_law(subject, LAWS[law]).verdict for law in ("start_function", "tokens_apart", "sequences_apart")]
    assert (usual == ["pass"] * 3) == mutant.quiet


@pytest.mark.parametrize("mutant", RELATIVES, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_planted_bug_in_a_relative_is_found_too(mutant: Mutant) -> None:
    found = hold_law(own_subject(mutant.settings, make=mutated(mutant)), LAWS[mutant.law])
    assert found.verdict == "fail", found
    assert not found.evidence.startswith("raises"), found


@pytest.mark.parametrize("settings", [DHC, DFC, MHC], ids=lambda settings: settings.tag())
def test_the_same_machinery_without_a_change_finds_nothing(settings: ConnectionSettings) -> None:
    line = "SCALE_AT_START = 0.01"
    unchanged = Mutant("none", settings, "coefficients", line, line, "", quiet=True)
    findings = hold(own_subject(settings, make=mutated(unchanged)))
    assert failed(findings) == []
    assert sum(finding.verdict == "pass" for finding in findings) > 20
