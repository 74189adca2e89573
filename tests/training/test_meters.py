"""Meters: saved bytes are counted once and repeatably, throughput leaves out warm-up and pauses."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from training_support import CONNECTIONS

from harness.models.decoder import token_losses
from harness.training.meters import WARMUP_STEPS, Throughput, saved_activation_bytes
from harness.training.recipe import build_model


def nats(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return token_losses(model(tokens[:, :-1]), tokens[:, 1:])


def test_saved_bytes_are_the_same_twice_and_leave_model_and_random_state_alone(recipe: Callable[..., Any]) -> None:
    model = build_model(recipe(CONNECTIONS["dhc-n4"], dropout=0.1)).train()
    tokens = torch.randint(0, 257, (4, 33))
    state = torch.get_rng_state()
    first = saved_activation_bytes(model, [tokens], nats)
    assert torch.equal(torch.get_rng_state(), state)
    assert saved_activation_bytes(model, [tokens], nats) == first > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_was_counted_is_freed(recipe: Callable[..., Any]) -> None:
    """A tensor that is saved by what made it must not hold its maker: no collector sees that cycle."""

    class Mark:
        pass

    class Marked(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.mark = Mark()
            seen.append(weakref.ref(ctx.mark))
            return x.clone()

    seen: list[weakref.ref[Mark]] = []
    model, tokens = build_model(recipe(CONNECTIONS["residual"])), torch.randint(0, 257, (4, 33))
    head = model.norm.register_forward_pre_hook(lambda _, args: (Marked.apply(*args),))
    saved_activation_bytes(model, [tokens], nats)
    head.remove()
    assert seen[0]() is None, "the graph is still there"


def test_saved_bytes_grow_with_the_batch_and_with_streams(recipe: Callable[..., Any]) -> None:
    tokens = torch.randint(0, 257, (4, 33))
    sizes = {
        name: saved_activation_bytes(build_model(recipe(CONNECTIONS[name])), [tokens], nats) for name in CONNECTIONS
    }
    assert sizes["residual"] < sizes["sfc-m2"] < sizes["shc-n2"] < sizes["dhc-n4"]
    double = saved_activation_bytes(build_model(recipe(CONNECTIONS["residual"])), [tokens.repeat(2, 1)], nats)
    assert double == pytest.approx(2 * sizes["residual"], rel=0.02)


def test_a_storage_saved_twice_counts_once_and_weights_never() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 8)
            self.head = nn.Linear(8, 7)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embedding(tokens)
            return self.head(x * x)  # x is saved twice by the product, x*x by the head

    saved = saved_activation_bytes(Square(), [torch.zeros(3, 6, dtype=torch.int64)], nats)
    states = 2 * 3 * 5 * 8 * 4  # x and x*x
    assert states < saved <= states + 3 * 5 * 7 * 4 * 2 + 3 * 5 * 8 * 2  # and what cross-entropy keeps


def test_throughput_leaves_out_the_first_steps_and_takes_the_median() -> None:
    meter = Throughput()
    meter.add(WARMUP_STEPS, 100.0)
    assert meter.seconds_per_step() is None
    for seconds in (1.0, 2.0, 50.0):
        meter.add(10, seconds)
    assert meter.seconds_per_step() == pytest.approx(0.2)
    other = Throughput()
    other.restore(meter.state())
    assert other.seconds_per_step() == pytest.approx(0.2)
    other.add(5, 500.0)  # a new process warms up again
    assert other.seconds_per_step() == pytest.approx(0.2)
