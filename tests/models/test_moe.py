"""The mixture of experts against a loop over tokens and experts, and what its router reports."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from connections_support import distance, leaves, normal, randomise
from torch import Tensor

from harness.models.moe import MixtureOfExperts, balance, grouped_product
from harness.models.settings import DecoderSettings

SHAPE = DecoderSettings(
    layers=1, width=16, heads=2, context=32, ffn_width=24, norm_eps=1e-3, experts=6, experts_per_token=2
)


def mixture(seed: int = 0, std: float = 0.6, **changes: Any) -> MixtureOfExperts:
    module = MixtureOfExperts(SHAPE.model_copy(update=changes))
    randomise(module, seed=seed, std=std)
    return module


def inputs(batch: int = 2, tokens: int = 15, seed: int = 1) -> Tensor:
    return normal(batch, tokens, SHAPE.width, seed=seed, dtype=torch.float32)


def by_hand(names: dict[str, Tensor], x_BTD: Tensor, chosen: int) -> tuple[Tensor, Tensor, Tensor, list[list[int]]]:
    """OLMoE (arXiv 2409.02060), section 2, token by token: outputs, balance loss, z-loss, the choices."""
    rows, choices, chances, squares = [], [], [], []
    experts, hidden = names["out"].shape[:2]
    for x in x_BTD.flatten(0, 1):
        x = x / (x.square().mean() + SHAPE.norm_eps).sqrt() * names["norm.weight"]
        logits = names["router.weight"] @ x
        exponentials = torch.exp(logits)
        chance = exponentials / exponentials.sum()
        best = sorted(range(experts), key=lambda e: -chance[e].item())[:chosen]
        out = torch.zeros_like(x)
        for e in best:
            gate, up = (x @ names["gate_up"][e]).split(hidden)
            out = out + chance[e] * ((gate / (1 + torch.exp(-gate)) * up) @ names["out"][e])
        rows.append(out)
        choices.append(best)
        chances.append(chance)
        squares.append(exponentials.sum().log().square())
    share = torch.tensor([sum(e in best for best in choices) for e in range(experts)]) / (len(choices) * chosen)
    balanced = experts * (share * torch.stack(chances).mean(dim=0)).sum()
    return torch.stack(rows).view_as(x_BTD), balanced, torch.stack(squares).mean(), choices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("experts", "chosen"), [(6, 1), (6, 2), (4, 4), (16, 5)])
def test_outputs_losses_and_gradients_are_those_of_a_loop(experts: int, chosen: int, dtype: torch.dtype) -> None:
    module = mixture(experts=experts, experts_per_token=chosen).to(dtype)
    names, x = leaves(module), inputs().to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    expected, expected_balance, expected_z, _ = by_hand(names, exact, chosen)
    out = module(x)
    assert module.losses is not None
    found_balance, found_z = module.losses
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    assert distance(out, expected) < tolerance
    assert distance(found_balance, expected_balance) < tolerance
    assert distance(found_z, expected_z) < tolerance
    weights = normal(*expected.shape, seed=5)
    (out * weights.to(dtype)).sum().add(found_balance + 0.1 * found_z).backward()
    (expected * weights).sum().add(expected_balance + 0.1 * expected_z).backward()
    assert distance(x.grad, exact.grad) < tolerance  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        assert distance(parameter.grad, names[name].grad) < tolerance, name  # type: ignore[arg-type]


@pytest.mark.parametrize("chosen", [1, 2, 6])
def test_no_token_is_dropped_however_uneven_the_loads(chosen: int) -> None:
    module, x = mixture(experts_per_token=chosen, std=4.0), inputs()
    _, _, _, choices = by_hand(leaves(module), x.double(), chosen)
    module(x)
    assert module.counts.sum() == x[..., 0].numel() * chosen
    assert module.counts.tolist() == [sum(e in best for best in choices) for e in range(6)]


def test_the_gradient_reaches_the_router_and_every_expert_with_tokens_and_no_other() -> None:
    module, x = mixture(experts=16), inputs(tokens=4)
    module(x).square().sum().backward()
    used = module.counts > 0
    assert 0 < used.sum() < 16, "the case is to have both kinds"
    for gradient in (module.gate_up.grad, module.out.grad):
        assert gradient is not None
        assert torch.equal(gradient.abs().amax(dim=(1, 2)) > 0, used)
    assert module.router.weight.grad is not None
    assert (module.router.weight.grad.abs().amax(dim=1) > 0).all(), "the softmax is over all experts"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_experts_without_tokens_and_single_tokens_are_cases_like_others(dtype: torch.dtype) -> None:
    module = mixture().to(dtype)
    with torch.no_grad():
        module.norm.weight.fill_(1.0)
        module.router.weight.copy_(torch.tensor([5.0, -5.0, 5.0, -5.0, -5.0, -5.0])[:, None].expand(6, 16))
    x = inputs(batch=1, tokens=1).abs().to(dtype)
    out = module(x)
    out.square().sum().backward()
    assert module.counts.tolist() == [1, 0, 1, 0, 0, 0]
    expected, _, _, _ = by_hand(leaves(module), x.double(), 2)
    assert distance(out, expected) < (0.02 if dtype == torch.bfloat16 else 1e-6)


def test_the_grouped_product_is_a_product_for_every_group() -> None:
    x, weights, counts = normal(10, 8, seed=1), normal(4, 8, 16, seed=2), torch.tensor([0, 3, 0, 7])
    expected = torch.cat([x[:3] @ weights[1], x[3:] @ weights[3]])
    assert distance(grouped_product(x, weights, counts), expected) < 1e-14
    assert distance(grouped_product(x.float(), weights.float(), counts), expected) < 1e-6


def test_permuted_tokens_give_permuted_outputs() -> None:
    module, x = mixture(), inputs(batch=1, tokens=20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    assert distance(module(x[:, order]), module(x)[:, order]) < 1e-6


def test_twice_the_same_is_bit_equal() -> None:
    runs = []
    for _ in range(2):
        module = mixture(experts_per_token=4)
        x = inputs().requires_grad_()
        out = module(x)
        out.square().sum().backward()
        runs.append([out, x.grad, *(p.grad for p in module.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_under_autocast_it_is_bf16_with_a_router_in_fp32() -> None:
    """A router in bf16 would move z by 1e-3 and more."""
    module, x = mixture(), inputs().bfloat16()  # as the stream is, so that both passes see the same
    module.norm = torch.nn.Identity()  # whose own rounding is not the question
    found = []
    for enabled in (True, False):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = module(x if enabled else x.float())
        assert module.losses is not None
        out.sum().backward()
        assert module.gate_up.grad is not None
        assert module.gate_up.grad.dtype == torch.float32
        found.append((out, module.losses[1], module.gate_up.grad.clone()))
    (out, z, gradient), (exact, exact_z, exact_gradient) = found
    assert out.dtype == torch.bfloat16
    assert 0.0 < distance(out, exact) < 0.02
    assert 0.0 < distance(gradient, exact_gradient) < 0.02
    torch.testing.assert_close(z, exact_z, rtol=1e-6, atol=0.0)


def test_experts_are_chosen_evenly_over_routers_drawn_anew() -> None:
    """Under a router of independent rows no expert is preferred: over 150 draws the mean share of each is 1 / E within
    4.5 standard errors, measured over the draws (for 6 experts a false alarm in 20,000 such tests)."""
    module, shares = mixture(), []
    module.eval()
    for draw in range(150):
        generator = torch.Generator().manual_seed(draw)
        with torch.no_grad():
            module.router.weight.normal_(0.0, 0.02, generator=generator)
            module.reset()
            module(torch.randn(4, 16, SHAPE.width, generator=generator))
        shares.append(module.counts / module.counts.sum())
    drawn = torch.stack(shares).double()
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    assert (error < 0.01).all(), "too few draws to see anything"
    assert ((drawn.mean(dim=0) - 1 / 6).abs() < 4.5 * error).all()


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_the_balance_loss_is_1_when_even_and_experts_over_chosen_when_collapsed(chosen: int) -> None:
    """Even: f_e = P_e = 1/E, so E · E · 1/E² = 1; for even loads any P gives E · (1/E) · sum P = 1. Collapsed on K
    experts: f_e = P_e = 1/K on those, so E · K · 1/K² = E/K."""
    module = mixture(experts=8, experts_per_token=chosen)
    with torch.no_grad():
        module.norm.weight.fill_(1.0)
        module.router.weight.zero_()
    module(inputs())
    assert module.losses is not None
    assert module.losses[0].item() == pytest.approx(1.0)
    assert module.losses[1].item() == pytest.approx(math.log(8) ** 2)
    assert balance(torch.full((8,), 3), torch.tensor([0.5, 0.3, 0.2, 0, 0, 0, 0, 0])).item() == pytest.approx(1.0)
    with torch.no_grad():
        module.router.weight[:chosen] = 100.0
        module.router.weight[chosen:] = -100.0
    module(inputs().abs())
    assert module.losses[0].item() == pytest.approx(8 / chosen)


def test_descending_the_balance_loss_evens_the_loads() -> None:
    module, x = mixture(), inputs(tokens=64) + 1.0  # what all tokens have in common favours the same experts
    torch.nn.init.ones_(module.norm.weight)
    losses, loads = [], []
    for _ in range(100):
        module.reset()
        module(x)
        assert module.losses is not None
        loss = module.losses[0]
        losses.append(loss.item())
        loads.append(6 * module.counts.max().item() / module.counts.sum().item())
        (gradient,) = torch.autograd.grad(loss, module.router.weight)
        with torch.no_grad():
            module.router.weight -= 0.2 * gradient
    assert losses[0] > 1.8
    assert loads[0] > 2.0
    assert losses[-1] < 1.05
    assert loads[-1] < 1.1


def test_tallies_are_in_no_checkpoint_and_survive_inference_mode() -> None:
    module, x = mixture(), inputs()
    assert set(module.state_dict()) == {"norm.weight", "router.weight", "gate_up", "out"}
    with torch.inference_mode():
        module(x)
    module(x).sum().backward()
    assert module.counts.sum() == 2 * x[..., 0].numel() * 2
    module.reset()
    assert module.counts.sum() == 0


def test_losses_are_kept_in_training_only_and_by_no_copy_of_the_graph() -> None:
    module, x = mixture(), inputs()
    assert module.losses is None
    copy.deepcopy(module)
    module(x)
    assert module.losses is not None
    module.eval()
    module(x)
    assert module.losses is None, "those of the pass before would keep its graph"
