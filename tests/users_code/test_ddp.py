"""Data parallel training in two processes: what they learn is what one learns from all images."""

from __future__ import annotations

import copy
import os
import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from softhebb_fast import SoftHebbBlock, SoftHebbConv2d, SoftHebbLinear, synchronise
from softhebb_fast.backends import why_not
from tests.tolerances import TOLERANCES, assert_close

WORLD, STEPS, SECONDS = 2, 3, 120
IN_PLACE = {"update": "in_place", "lr": 0.1, "dtype": torch.float64}


def images(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(6, 3, 6, 6, generator=generator, dtype=torch.float64)


def part(x: Tensor) -> Tensor:
    """The images of this process; all of them where there is one."""
    if not dist.is_initialized():
        return x
    return x[:2] if dist.get_rank() == 0 else x[2:]


def shared(model: nn.Module) -> nn.Module:
    """Different weights in each process, until they are synchronised."""
    if not dist.is_initialized():
        return model
    with torch.no_grad():
        for p in model.parameters():
            p += dist.get_rank()
    return synchronise(model)


def conv(**options) -> nn.Module:
    torch.manual_seed(0)
    return SoftHebbConv2d(3, 8, 3, padding=1, radius=3.0, t_invert=2.0, **options)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def in_place(**options) -> Callable[[], dict[str, Tensor]]:
    def learn() -> dict[str, Tensor]:
        layer = shared(conv(**IN_PLACE, **options))
        for step in range(STEPS):
            layer(part(images(step)))
        return weights(layer)

    return learn


def by_optimizer() -> dict[str, Tensor]:
    layer = shared(conv(bias=True, dtype=torch.float64))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, maximize=True)
    for step in range(STEPS):
        optimizer.zero_grad()
        layer(part(images(step)))
        optimizer.step()
    return weights(layer)


def rows() -> dict[str, Tensor]:
    torch.manual_seed(0)
    layer = shared(SoftHebbLinear(108, 8, radius=3.0, t_invert=2.0, bias=True, **IN_PLACE))
    for step in range(STEPS):
        layer(part(images(step)).flatten(1))
    return weights(layer)


def through_a_layer() -> dict[str, Tensor]:
    """The gradient of x is that of the weights before the step."""
    layer, below = shared(conv(**IN_PLACE)), nn.Conv2d(3, 3, 1, dtype=torch.float64)
    nn.init.dirac_(below.weight)
    layer(below(part(images(0)))).square().sum().backward()
    gradient = below.weight.grad
    if dist.is_initialized():
        dist.all_reduce(gradient)
    return {"gradient": gradient, **weights(layer)}


def wrapped(**options) -> Callable[[], dict[str, Tensor]]:
    """Hebbian layers and a classifier in the same passes, under DistributedDataParallel."""

    def learn() -> dict[str, Tensor]:
        torch.manual_seed(0)
        hebbian = SoftHebbBlock(3, 8, 3, batch_norm=False, dtype=torch.float64, **options)
        net = nn.Sequential(hebbian, nn.Flatten(), nn.Linear(128, 4, dtype=torch.float64))
        model = net
        if dist.is_initialized():
            synchronise(net)
            ddp = {"find_unused_parameters": True, "gradient_as_bucket_view": True}
            model = DistributedDataParallel(net, **ddp)
        groups = [
            {"params": net[0].parameters(), "maximize": True},
            {"params": net[2].parameters(), "lr": 0.01},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.1)
        share = WORLD if dist.is_initialized() else 1  # DDP takes the mean over processes
        for step in range(STEPS):
            optimizer.zero_grad()
            (model(part(images(step))).square().sum() * share / 6).backward()
            optimizer.step()
        return weights(net)

    return learn


def an_empty_part() -> dict[str, Tensor]:
    layer = shared(conv(bias=True, **IN_PLACE))
    x = images(0)
    layer(x[:0] if dist.is_initialized() and dist.get_rank() == 1 else x)
    return weights(layer)


def copies() -> dict[str, Tensor]:
    layer = copy.deepcopy(shared(conv(**IN_PLACE)))
    layer(part(images(0)))
    return weights(layer)


def normalised(*, empty: bool = False, momentum: float | None = 0.1) -> dict[str, Tensor]:
    """A block that learns from images normalised over all processes, and what it has kept."""
    torch.manual_seed(0)
    block = shared(SoftHebbBlock(3, 8, 3, **IN_PLACE))
    block.norm.momentum = momentum
    for step in range(STEPS):
        x = 3 * images(step) + 5
        alone = empty and dist.is_initialized()
        block((x if dist.get_rank() == 0 else x[:0]) if alone else part(x))
    return weights(block)


def through_a_norm() -> dict[str, Tensor]:
    """Gradients below and in a batch norm that lies over the processes."""
    torch.manual_seed(0)
    below, norm = nn.Conv2d(3, 3, 3, dtype=torch.float64), nn.BatchNorm2d(3, dtype=torch.float64)
    hebbian = SoftHebbConv2d(3, 4, 3, **IN_PLACE)
    net = nn.Sequential(below, norm, hebbian.requires_grad_(False))
    if dist.is_initialized():
        synchronise(net)
    net(part(images(0))).pow(3).sum().backward()
    found = {f"{name}.grad": p.grad for name, p in net.named_parameters() if p.grad is not None}
    for gradient in found.values():
        if dist.is_initialized():
            dist.all_reduce(gradient)
    return {**found, **weights(net)}


KERNEL = {} if why_not("cpp", "cpu") else {"by_the_kernel": in_place(backend="cpp")}
SAME = {
    "in_place": in_place(),
    "by_the_reference": in_place(backend="reference"),
    "normalised": normalised,
    "normalised_in_the_mean": lambda: normalised(momentum=None),
    "normalised_with_an_empty_part": lambda: normalised(empty=True),
    "through_a_norm": through_a_norm,
    **KERNEL,
    "bias": in_place(bias=True),
    "groups": lambda: weights(grouped()),
    "hard_anti": in_place(wta="hard_anti", rank=2),
    "soft": in_place(wta="soft", lebesgue_p=3.0, bias=True),
    "pre_triangle": in_place(pre_triangle=True),
    "by_optimizer": by_optimizer,
    "rows": rows,
    "through_a_layer": through_a_layer,
    "wrapped_in_place": wrapped(update="in_place", lr=0.1),
    "wrapped_by_optimizer": wrapped(),
    "an_empty_part": an_empty_part,
    "copies": copies,
}


def grouped() -> nn.Module:
    torch.manual_seed(0)
    layer = shared(SoftHebbConv2d(3, 9, 3, groups=3, radius=3.0, **IN_PLACE))
    for step in range(STEPS):
        layer(part(images(step)))
    return layer


def message(call: Callable[[], object]) -> str:
    try:
        call()
    except (RuntimeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def unnoticed() -> str:
    """A wrapped layer that was not synchronised: refused, and as it was."""
    layer = conv(**IN_PLACE)
    model, before = DistributedDataParallel(layer), weights(layer)
    refusal = message(lambda: model(part(images(0))))
    assert torch.equal(layer.weight, before["weight"])
    model.eval()(part(images(0)))
    return refusal


def apart() -> Tensor:
    layer = conv(**IN_PLACE)
    DistributedDataParallel(synchronise(layer, apart=True))(part(images(0)))
    return layer.weight.detach().clone()


def alone() -> Tensor:
    """Two experiments in two processes that have nothing to do with each other."""
    layer = conv(**IN_PLACE)
    layer(part(images(0)))
    return layer.weight.detach().clone()


def pickled() -> str:
    layer = pickle.loads(pickle.dumps(synchronise(conv(**IN_PLACE))))
    return message(lambda: DistributedDataParallel(layer)(part(images(0))))


def asked() -> Tensor | None:
    """What one process asks for by itself waits for no other."""
    layer = synchronise(conv(**IN_PLACE))
    return layer.hebbian_update(part(images(0))).delta_w if dist.get_rank() == 0 else None


def sharded(layer_alone: bool, **options) -> str:
    net = nn.Sequential(conv(**options), nn.Flatten(), nn.Linear(288, 4, dtype=torch.float64))
    mesh = dist.init_device_mesh("cpu", (WORLD,))
    if layer_alone:
        fully_shard(net[0], mesh=mesh)
    fully_shard(net, mesh=mesh)
    return message(lambda: net(part(images(0))))


def sharded_without(**options) -> str:
    layer = synchronise(conv(**options))
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(288, 4, dtype=torch.float64))
    ignored = set(layer.parameters())
    fully_shard(net, mesh=dist.init_device_mesh("cpu", (WORLD,)), ignored_params=ignored)
    before = weights(layer)
    refusal = message(lambda: net(part(images(0))))
    assert not torch.equal(layer.weight, before["weight"])
    return refusal


def flattened(use_orig_params: bool) -> str:
    net = nn.Sequential(conv(**IN_PLACE), nn.Flatten(), nn.Linear(288, 4, dtype=torch.float64))
    model = FullyShardedDataParallel(net, device_id="cpu", use_orig_params=use_orig_params)
    return message(lambda: model(part(images(0))))


ALONE = {
    "unnoticed": unnoticed,
    "apart": apart,
    "alone": alone,
    "pickled": pickled,
    "asked": asked,
    "sharded": lambda: sharded(False, **IN_PLACE),
    "sharded_alone": lambda: sharded(True, **IN_PLACE),
    "sharded_by_optimizer": lambda: sharded(False, dtype=torch.float64),
    "sharded_without": lambda: sharded_without(**IN_PLACE),
    "flattened": lambda: flattened(False),
    "flattened_originals": lambda: flattened(True),
}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", WORLD)
    limit = timedelta(seconds=SECONDS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=limit)
    found = {name: learn() for name, learn in {**SAME, **ALONE}.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
    os._exit(0)  # sharded models leave references to the group, whose threads may abort an exit


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each process has learned."""
    folder = Path(tmp_path_factory.mktemp("processes"))
    context = torch.multiprocessing.start_processes(
        process, (str(folder),), nprocs=WORLD, join=False, start_method="spawn"
    )
    end = time.monotonic() + SECONDS
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < end, "the processes wait for each other"
    finally:
        for child in context.processes:
            if child.is_alive():
                child.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", SAME)
def test_processes_learn_what_one_does(found, name):
    first, second = (of_one[name] for of_one in found)
    for key, expected in SAME[name]().items():
        assert torch.equal(first[key], second[key])
        assert_close(first[key], expected, TOLERANCES["float64_steps"])


@pytest.mark.parametrize("name", ["unnoticed", "pickled"])
def test_a_wrapped_layer_that_nobody_synchronised_is_refused(found, name):
    for of_one in found:
        assert "RuntimeError: DistributedDataParallel" in of_one[name]
        assert "softhebb_fast.synchronise(model)" in of_one[name]


@pytest.mark.parametrize("name", ["apart", "alone"])
def test_processes_may_learn_apart(found, name):
    first, second = (of_one[name] for of_one in found)
    assert not torch.equal(first, second)


def test_an_update_that_is_only_asked_for_is_that_of_one_process(found):
    assert_close(
        found[0]["asked"],
        conv(**IN_PLACE).hebbian_update(images(0)[:2]).delta_w,
        TOLERANCES["float64"],
    )


@pytest.mark.parametrize("name", ["sharded", "sharded_alone", "sharded_by_optimizer"])
def test_a_sharded_weight_is_refused(found, name):
    for of_one in found:
        assert "ignored_params= of fully_shard" in of_one[name]


def test_a_layer_left_out_of_sharding_learns(found):
    assert [of_one["sharded_without"] for of_one in found] == ["", ""]


@pytest.mark.parametrize("name", ["flattened", "flattened_originals"])
def test_a_flattened_weight_is_refused(found, name):
    for of_one in found:
        assert "TypeError: weight must be a parameter of the layer itself" in of_one[name]


def test_synchronising_needs_processes_and_a_layer():
    with pytest.raises(RuntimeError, match="init_process_group"):
        synchronise(conv())
    with pytest.raises(ValueError, match="must hold a Hebbian layer; got Linear"):
        synchronise(nn.Linear(2, 2))
