"""What is done to a module: casts, copies, moves, records, wraps, conversions."""

from __future__ import annotations

import copy
import io
import pickle
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel

from benchmarks.fire.lives.plans import Plan
from benchmarks.fire.lives.twins import Listener
from softhebb_fast import convert
from softhebb_fast.nn.plasticity import STATE
from softhebb_fast.options import Rule

CUDA = torch.device("cuda:0")
NO_CUDA = "not linked with support for cuda"
SHORT = (torch.float16, torch.bfloat16)
# What is recorded or compiled may sum in another order.
NEAR = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LAYOUT = ("bias", "padding", "groups", "padding_mode")


def _saved(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "save": _saved,
}


def listeners(module: nn.Module) -> list[Listener]:
    hooks = (hook for part in module.modules() for hook in part._forward_hooks.values())
    return [hook for hook in hooks if isinstance(hook, Listener)]


def cast(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """What ``module.to(dtype)`` makes of a state: a rule's stays in float32 at least."""
    made = {}
    for name, tensor in state.items():
        to = torch.float32 if name.split(".")[-1] in STATE and dtype in SHORT else dtype
        made[name] = tensor.to(to) if tensor.is_floating_point() else tensor
    return made


def evaluated(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return module.eval()(x)


def on_meta(
    module: nn.Module, x: Tensor, given: dict[str, Tensor], shape: tuple[int, ...]
) -> nn.Module:
    """A copy on the device without values, after a batch."""
    there = copy.deepcopy(module).to("meta")
    out = there(x.to("meta"), **{name: tensor.to("meta") for name, tensor in given.items()})
    assert (out.is_meta, tuple(out.shape)) == (True, shape), f"{out.device} {out.shape}"
    return there


def on_fake_cuda(
    module: nn.Module, x: Tensor, given: dict[str, Tensor], shape: tuple[int, ...]
) -> None:
    """A batch of a copy on a CUDA device that need not exist: all of it stays there.

    Without a graph, which a torch without CUDA cannot make.
    """

    def copy_(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        return torch.ops.aten.copy_.default(self, source, non_blocking)

    there = copy.deepcopy(module)
    with mock.patch.object(Tensor, "copy_", copy_), FakeTensorMode() as mode:
        mode.allow_non_fake_inputs = True
        there.to_empty(device=CUDA)
        x = torch.empty(x.shape, dtype=x.dtype, device=CUDA)
        given = {n: torch.zeros(t.shape, dtype=t.dtype, device=CUDA) for n, t in given.items()}
        try:
            with torch.no_grad():
                out = there(x, **given)
        except RuntimeError as error:
            if NO_CUDA in str(error):  # as when Python indexes a tensor there
                return
            raise
        assert (out.device, tuple(out.shape)) == (CUDA, shape), f"{out.device} {out.shape}"
        for name, tensor in there.state_dict().items():
            own = name.split(".")[-1] not in ("steps", "patches")
            assert not own or tensor.device == CUDA, f"{name} is on {tensor.device}"


def recorded(module: nn.Module, how: str, x: Tensor) -> None:
    """A recording of a module in evaluation mode computes what the module does."""
    expected = evaluated(module, x)
    found = _record(module, how, x)(x)
    near = NEAR[x.dtype]
    torch.testing.assert_close(found, expected, rtol=near, atol=near, equal_nan=True)


def refused(module: nn.Module, how: str, x: Tensor) -> None:
    """A module that learns is not recorded."""
    said = "it was recorded"
    try:
        _record(module, how, x)
    except Exception as error:
        said = repr(error)
    assert "cannot be traced or exported" in said, said


def _record(module: nn.Module, how: str, x: Tensor) -> nn.Module:
    with torch.no_grad():
        if how == "jit":
            return torch.jit.trace(module, x, check_trace=False)
        if how == "fx":
            return torch.fx.symbolic_trace(module)
        return torch.export.export(module, (x,), strict=False).module()


def convertible(plan: Plan) -> bool:
    """Whether a plain layer of torch computes what one of ``plan`` does in evaluation mode."""
    options, rule = plan.options, plan.options.get("rule", "softhebb")
    if plan.kind != "layer" or plan.layer.endswith("1d") or callable(rule):
        return False
    if options["lebesgue_p"] != 2 or options.get("pre_triangle"):
        return False
    return "target" not in Rule.of(rule).wants


def converted(
    plan: Plan, state: dict[str, Tensor], dtype: torch.dtype, mode: bool, frozen: bool
) -> nn.Module:
    """A layer of torch with weight and bias of ``state``, as ``convert`` makes it learn."""
    options = {name: v for name, v in plan.options.items() if name not in LAYOUT}
    if (rates := options.get("neuron_rates")) is not None:
        options["neuron_rates"] = torch.tensor(rates)
    own = {name: plan.options[name] for name in LAYOUT if name in plan.options}
    kind = nn.Linear if plan.layer.endswith("Linear") else nn.Conv2d
    plain = kind(*plan.sizes, **own).to(dtype)
    plain.load_state_dict({n: v for n, v in state.items() if n in ("weight", "bias")})
    plain.weight.requires_grad_(not frozen)
    found = convert(nn.Sequential(plain).train(mode), head=True, **options)
    assert found.converted == ["0"], str(found)
    return found.model[0]


def begin_processes() -> None:
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def distributed(module: nn.Module) -> nn.Module:
    return DistributedDataParallel(module, find_unused_parameters=True)


def end_wrapping() -> None:
    torch._dynamo.reset()
    if dist.is_initialized():
        dist.destroy_process_group()
