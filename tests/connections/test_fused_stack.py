"""Stacks that go by kernels: against the float64 references, compiled, recomputed, in parallel, copied, moved."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from connections_support import distance, leaves, mixing_branch, normal, randomise
from kernels_support import case
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from harness.conform.references import REFERENCES
from harness.connections import build
from harness.connections.kernels import boundary, native, operators
from harness.connections.kernels.form import Form
from harness.connections.kernels.stack import FusableConnections
from harness.connections.settings import CONNECTIONS, ConnectionSettings
from harness.models.decoder import Decoder, token_losses
from harness.models.settings import DecoderSettings
from harness.training.meters import saved_activation_bytes

DIM, LIMIT = 24, 1e-4
WHY = native.problem(Form(2, 1, DIM, "given"))
pytestmark = pytest.mark.skipif(WHY is not None, reason=f"no kernels here: {WHY}")

ROWS: list[tuple[str, dict[str, Any]]] = [
    *[("hyper", {"rate": n, "dynamic": dynamic}) for n in (1, 4) for dynamic in (False, True)],
    ("hyper", {"rate": 3, "A_m": "static", "A_r": "dynamic", "B": "frozen"}),
    ("hyper", {"rate": 3, "A_m": "frozen", "A_r": "static", "B": "dynamic"}),
    ("hyper", {"rate": 2, "A_m": "frozen", "A_r": "frozen", "B": "static"}),
    ("hyper", {"rate": 2, "scale": False, "norm_type": "rms_norm"}),
    ("hyper", {"rate": 2, "tanh": False, "norm_type": "layer_norm_no_affine"}),
    *[("frac", {"rate": m, "dynamic": dynamic}) for m in (1, 4) for dynamic in (False, True)],
    ("frac", {"rate": 2, "Y": "frozen", "A": "static"}),
    ("frac", {"rate": 4, "norm": False}),
    *[("ghc", {"fractions": 2, "slots": n, "dynamic": dynamic}) for n in (3, 4) for dynamic in (False, True)],
    ("mhc", {"rate": 4}),
    ("identity_hc", {"rate": 3}),
]


def made(kind: str, raw: dict[str, Any], depth: int) -> tuple[ConnectionSettings, FusableConnections]:
    settings = CONNECTIONS[kind].model_validate(raw)
    stack = build(settings, DIM, depth)
    randomise(stack, std=0.3)
    assert isinstance(stack, FusableConnections)
    stack.use(native)
    return settings, stack


@pytest.mark.parametrize(("kind", "raw"), ROWS, ids=str)
def test_a_fused_stack_is_the_reference(kind: str, raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = []
    monkeypatch.setattr(type(made(kind, raw, 1)[1]), "collapse", lambda *_: plain.append(1))
    for depth in (1, 2, 5):
        settings, stack = made(kind, raw, depth)
        parameters, buffers = leaves(stack), {name: value.double() for name, value in stack.named_buffers()}
        branches = [mixing_branch(DIM, seed=k) for k in range(depth)]
        x = normal(2, 3, DIM, seed=3, dtype=torch.float32).requires_grad_()
        exact = x.detach().double().requires_grad_()
        ours, theirs = stack(x, branches), REFERENCES[kind](settings, {**parameters, **buffers}, exact, branches)
        assert distance(ours, theirs) <= LIMIT
        direction = normal(*theirs.shape, seed=99)
        (ours * direction.float()).sum().backward()
        (theirs * direction).sum().backward()
        for name, leaf in {**parameters, "input": exact}.items():
            found = x.grad if name == "input" else stack.get_parameter(name).grad
            if leaf.grad is None or not leaf.grad.abs().max():
                assert found is None or not found.abs().max(), name
            else:
                assert distance(found, leaf.grad) <= LIMIT, (depth, name)  # type: ignore[arg-type]
    assert not plain, "it went the plain way"


@pytest.mark.parametrize(("kind", "raw"), ROWS, ids=str)
def test_what_is_kept_for_the_backward_pass_is_the_formulas(kind: str, raw: dict[str, Any]) -> None:
    settings, residual = CONNECTIONS[kind].model_validate(raw), CONNECTIONS["residual"]()
    for layers in (1, 2, 3):
        stated = settings.fused_saved_bytes(DIM, 2 * layers)
        assert stated is not None
        assert stated - residual.saved_bytes(DIM, 2 * layers) == kept_by(settings, layers) - kept_by(residual, layers)


def kept_by(settings: ConnectionSettings, layers: int) -> float:
    """Bytes per token, in a decoder."""
    counts = []
    for length in (4, 8):
        model = Decoder(DecoderSettings(layers=layers, width=DIM, heads=2, context=8), settings, 11)
        if isinstance(model.connections, FusableConnections):
            model.connections.use(native)
        tokens = torch.zeros(1, length + 1, dtype=torch.long)
        counts.append(saved_activation_bytes(model, [tokens], lambda net, x: token_losses(net(x[:, :-1]), x[:, 1:])))
    return (counts[1] - counts[0]) / 4


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_however_few_states_are_kept_numbers_are_the_same(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "STATES_PER_KEPT", kept)
    _, stack = made("hyper", {"rate": 4}, 7)
    x = normal(2, 3, DIM, seed=3, dtype=torch.float32)
    ours = stack(x, [mixing_branch(DIM, seed=k) for k in range(7)])
    stack.use(None)
    torch.testing.assert_close(ours, stack(x, [mixing_branch(DIM, seed=k) for k in range(7)]), rtol=1e-5, atol=1e-5)


def test_a_frozen_parameter_gets_no_gradient_and_changes_no_other() -> None:
    grads = []
    for frozen in (False, True):
        _, stack = made("hyper", {"rate": 4}, 4)
        stack.get_parameter("sublayers.1.dynamic_alpha_fn").requires_grad_(not frozen)
        stack.get_parameter("sublayers.2.static_beta").requires_grad_(not frozen)
        stack(
            normal(2, 3, DIM, seed=3, dtype=torch.float32), [mixing_branch(DIM, seed=k) for k in range(4)]
        ).sum().backward()
        grads.append({name: parameter.grad for name, parameter in stack.named_parameters()})
    free, held = grads
    for name, grad in held.items():
        assert (grad is None) == (name in ("sublayers.1.dynamic_alpha_fn", "sublayers.2.static_beta")), name
        assert grad is None or torch.equal(grad, free[name]), name  # type: ignore[arg-type]


def test_without_gradients_it_is_the_same_and_nothing_is_kept() -> None:
    _, stack = made("hyper", {"rate": 4}, 4)
    x, branches = normal(2, 3, DIM, seed=3, dtype=torch.float32), [mixing_branch(DIM, seed=k) for k in range(4)]
    with torch.no_grad():
        alone = stack(x, branches)
    assert not alone.requires_grad
    assert torch.equal(alone, stack(x, branches))


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_give_the_same_gradients(reentrant: bool) -> None:
    found = []
    for recompute in (False, True):
        _, stack = made("hyper", {"rate": 4}, 4)
        branches = [mixing_branch(DIM, seed=k) for k in range(4)]
        x = normal(2, 3, DIM, seed=3, dtype=torch.float32).requires_grad_()
        out = checkpoint(stack, x, branches, use_reentrant=reentrant) if recompute else stack(x, branches)
        out.square().sum().backward()
        found.append([x.grad, *[parameter.grad for parameter in stack.parameters()]])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def decoder(kind: str, raw: dict[str, Any]) -> Decoder:
    model = Decoder(DecoderSettings(layers=2, width=DIM, heads=2, context=8), CONNECTIONS[kind].model_validate(raw), 11)
    randomise(model.connections, std=0.3)
    assert isinstance(model.connections, FusableConnections)
    model.connections.use(native)
    return model


def loss_and_gradients(model: nn.Module) -> list[torch.Tensor]:
    tokens = torch.arange(18).view(2, 9) % 11
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    found = [loss.detach(), *[grad.clone() for grad in grads]]
    model.zero_grad()
    return found


COMPILED = [("hyper", {"rate": 4}), ("frac", {"rate": 2, "dynamic": False}), ("mhc", {"rate": 2})]


@pytest.mark.parametrize(
    ("kind", "raw"), [COMPILED[0], *[pytest.param(*row, marks=pytest.mark.slow) for row in COMPILED[1:]]]
)
def test_a_compiler_sees_one_graph(kind: str, raw: dict[str, Any]) -> None:
    """Kernels are operators with known shapes there: nothing breaks the graph."""
    model = decoder(kind, raw)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for one, other in zip(loss_and_gradients(compiled), loss_and_gradients(model), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "form",
    [Form(4, 1, 8, "affine", norm="layer"), Form(2, 1, 8, "given"), Form(2, 1, 8, "sinkhorn", iterations=2)],
    ids=str,
)
def test_its_operators_have_the_shapes_that_a_compiler_is_told(form: Form, keep: bool) -> None:
    given, key = case(form, 3, 2, seed=1).to(torch.float32), operators.key_of(form, native)
    made = native.forward(form, given.state, given.links, given.operands, True)
    kept = [made.coefficients, made.raw, made.stats, given.g_next, given.g_x, None]
    links, small = [tensor for link in given.links for tensor in link], list(given.operands)

    def shapes(there: Callable[[Any], Any]) -> list[Any]:
        state, *rest = there(given.state), [there(one) for one in links], [there(one) for one in small]
        forward = operators._forward(key, keep, state, *rest)
        backward = operators._backward(key, state, *rest, [there(one) for one in kept])
        return [(one.shape, one.stride(), one.dtype) for one in (*forward, *backward)]

    with FakeTensorMode() as mode:
        told = shapes(lambda one: None if one is None else mode.from_tensor(one))
    assert told == shapes(lambda one: one)


def test_replicas_of_ddp_and_shards_of_fsdp_have_the_gradients_of_one(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    alone = loss_and_gradients(decoder("hyper", {"rate": 4}))
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        replica = loss_and_gradients(DistributedDataParallel(decoder("hyper", {"rate": 4})))
        sharded = decoder("hyper", {"rate": 4})
        fully_shard(sharded)
        shards = [getattr(one, "full_tensor", lambda one=one: one)() for one in loss_and_gradients(sharded)]
    finally:
        distributed.destroy_process_group()
    for one, two, three in zip(alone, replica, shards, strict=True):
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(one, three)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_go_the_plain_way(dtype: torch.dtype) -> None:
    _, stack = made("hyper", {"rate": 2}, 2)
    stack = stack.to(torch.float64) if dtype == torch.float64 else stack
    x, branches = normal(1, 2, DIM, seed=1, dtype=dtype), [torch.tanh] * 2
    ours = stack(x, branches)
    stack.use(None)
    assert torch.equal(ours, stack(x, branches))


def test_a_copied_and_a_pickled_stack_go_by_kernels_too(tmp_path: Path) -> None:
    _, stack = made("hyper", {"rate": 4}, 3)
    x, branches = normal(2, 3, DIM, seed=3, dtype=torch.float32), [mixing_branch(DIM, seed=k) for k in range(3)]
    for again in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        assert again.kernels == "native"
        assert torch.equal(again(x, branches), stack(x, branches))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_stack_that_was_moved_to_another_precision_goes_the_plain_way(dtype: torch.dtype) -> None:
    _, stack = made("hyper", {"rate": 2}, 2)
    x = normal(1, 2, DIM, seed=1, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="dtype"):  # as plain PyTorch says of fp32 and such weights
        stack.to(dtype)(x, [torch.tanh] * 2)


def test_a_branch_may_answer_for_all_tokens_at_once() -> None:
    _, stack = made("hyper", {"rate": 2}, 2)
    x, branches = normal(2, 3, DIM, seed=1, dtype=torch.float32), [lambda y: y[:1].mean(dim=-1, keepdim=True)] * 2
    ours = stack(x, branches)
    stack.use(None)
    torch.testing.assert_close(ours, stack(x, branches), rtol=1e-5, atol=1e-5)


def test_tensors_without_data_have_shapes() -> None:
    _, stack = made("hyper", {"rate": 2}, 3)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x = mode.from_tensor(torch.zeros(2, 3, DIM))
        assert stack(x, [torch.tanh] * 3).shape == (2, 3, DIM)
