"""What would keep a step from its weight, noticed before the step is made."""

from __future__ import annotations

import sys
import warnings

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from softhebb_fast.functional.rounding import SHORT
from softhebb_fast.functional.transforms import recomputing, transforming
from softhebb_fast.kinds import ROUNDINGS, UPDATES
from softhebb_fast.nn import handing
from softhebb_fast.options import check_among


def steppable(layer: nn.Module) -> bool:
    """Whether a layer in training mode learns, of which weight or bias is no plain parameter.

    It does not where all that they are computed from is frozen. Raises TypeError if it would.
    """
    for name in ("weight", "bias"):
        value, own = getattr(layer, name), layer._parameters.get(name)
        if isinstance(own, nn.Parameter) and not hasattr(own, "device_mesh"):
            continue
        if value is None and name == "bias":
            continue
        sources = [
            p
            for key, p in layer.named_parameters()
            if key.removeprefix("parametrizations.").startswith(name)
            and isinstance(p, nn.Parameter)
        ]
        frozen = not any(t.requires_grad for t in (value, *sources) if t is not None)
        if frozen and (sources or name == "bias"):
            continue
        raise TypeError(
            f"{name} must be a parameter of the layer itself to learn; {_instead(layer, name)}, "
            "or use the layer in evaluation mode (layer.eval())"
        )
    return layer.weight.requires_grad


def _instead(layer: nn.Module, name: str) -> str:
    """What weight or bias is, and what to do about it."""
    if parametrize.is_parametrized(layer, name):
        call = f"torch.nn.utils.parametrize.remove_parametrizations(layer, {name!r})"
        return f"a parametrization computes it, so that its step would be lost. Call {call}"
    if f"{name}_g" in layer._parameters or f"{name}_orig" in layer._parameters:
        return (
            "weight_norm, spectral_norm or pruning computes it before every forward. Remove that "
            "first (torch.nn.utils.remove_weight_norm, remove_spectral_norm, prune.remove)"
        )
    if hasattr(getattr(layer, name), "device_mesh"):
        return (
            "it is sharded over processes. Leave it out (ignored_params= of fully_shard) and call "
            "softhebb_fast.synchronise"
        )
    if hasattr(layer, "_is_replica"):
        return (
            "it is the copy of nn.DataParallel, which ends with the forward. Use "
            "softhebb_fast.synchronise and one process a device"
        )
    kind = "a buffer" if name in layer._buffers else "a plain tensor"
    if getattr(layer, name) is None:
        kind = "None"
    return f"it is {kind}. Replace it by torch.nn.Parameter(...), frozen by requires_grad=False"


def check_call(layer: nn.Module) -> None:
    """Raise RuntimeError where this forward of a layer that learns would go wrong."""
    if transforming():
        raise RuntimeError(
            "a layer that learns cannot run inside torch.func (grad, vmap, jvp, ...) or "
            "forward-mode differentiation: its update would be lost. Use evaluation mode "
            "(layer.eval()) or softhebb_fast.functional"
        )
    if layer.update == "in_place" and recomputing():
        raise RuntimeError(
            "a layer with update='in_place' ran inside a backward pass, as activation "
            "checkpointing does to repeat a forward: its weights have moved since, and it would "
            "step twice. Use update='grad', or leave the layer out of the checkpoint"
        )
    wrapper = getattr(DistributedDataParallel, "_active_ddp_module", None)
    if wrapper is not None and layer.processes is None and wrapper.process_group.size() > 1:
        raise RuntimeError(
            "DistributedDataParallel does not see the updates of a Hebbian layer, so that the "
            "weights of its processes would drift apart. Call softhebb_fast.synchronise(model) "
            "first, or softhebb_fast.synchronise(model, apart=True) to let them"
        )


def check_started(layer: nn.Module) -> None:
    """Raise RuntimeError if the layer has no weights yet."""
    if layer.waits_for_data:
        raise RuntimeError(
            f"a layer with init={layer.init!r} starts from images, and has not yet: call "
            "softhebb_fast.nn.initialise_from(layer, images), or load a state"
        )


def meet(layer: nn.Module) -> None:
    """What is looked at once for a weight that learns, and again if its dtype, ``update`` or
    ``rounding`` is another."""
    check_among("update", layer.update, UPDATES)
    check_among("rounding", layer.rounding, ROUNDINGS)
    check_started(layer)
    if layer.update == "grad":
        handing.watch(layer)
    if _shards(layer):
        raise RuntimeError(
            "fully_shard gathers the weight of a Hebbian layer for one forward, and its step would "
            "be lost. Leave it out (ignored_params= of fully_shard) and call "
            "softhebb_fast.synchronise"
        )
    if layer.weight.dtype in SHORT and (layer.update == "grad" or layer.rounding == "nearest"):
        advice = "keep it in float32 under torch.autocast"
        if layer.update == "in_place":
            advice = f"use rounding='stochastic', or {advice}"
        warnings.warn(
            f"a weight of {layer.weight.dtype} learns: steps below half the spacing of such "
            f"numbers are lost to rounding. To keep them, {advice}",
            stacklevel=4,
        )


def _shards(layer: nn.Module) -> bool:
    """Whether a module gathers the weight for its own calls alone (fully_shard)."""
    sharded = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    if sharded is None:
        return False
    from torch.distributed._composable_state import _module_state_mapping as known

    return any(isinstance(module, sharded) and _gathers(module, layer) for module in list(known))


def _gathers(sharded: nn.Module, layer: nn.Module) -> bool:
    state = sharded._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        groups = state._fsdp_param_groups
    else:  # before torch 2.13
        groups = [state._fsdp_param_group]
    return any(p._module_info.module is layer for g in groups if g for p in g.fsdp_params)
