"""The activations that follow SoftHebb layers."""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.functional.rounding import SHORT
from softhebb_fast.scalars import between, positive, whole


class Triangle(nn.Module):
    """``relu(u - mean over channels of u) ** power``, shape kept.

    Channels lie in dimension 1, or are all that ``[K]`` has; an image needs its batch dimension.
    They are split into ``groups``, each with a mean of its own.

    The mean is taken as a constant by autograd, as in the published networks.

    Raises ValueError or TypeError for a ``power`` that is not positive, or ``groups`` that are no
    count; ValueError for a u whose channels they do not divide.

    Source: Coates et al. 2011 (power 1); Journé et al. 2023 (arXiv 2209.11883), section 3.
    """

    groups: int = 1

    def __init__(self, power: float = 1.0, groups: int = 1) -> None:
        super().__init__()
        self.power: float = positive("power", power)
        self.groups = whole("groups", groups, least=1)

    def forward(self, u: Tensor) -> Tensor:
        channels = _channels(u)
        if self.groups == 1:
            centred = u - u.detach().mean(dim=channels, keepdim=True)
        else:
            parts = u.unflatten(channels, (self.groups, _share(u.shape, channels, self.groups)))
            mean = parts.detach().mean(dim=channels + 1, keepdim=True)
            centred = (parts - mean).flatten(channels, channels + 1)
        return _power(F.relu(centred), self.power)

    def extra_repr(self) -> str:
        return f"power={self.power}" + (f", groups={self.groups}" if self.groups > 1 else "")


class SplitTriangle(nn.Module):
    """Both sides of the mean: ``relu(c) ** power`` and behind it ``relu(-c) ** power``.

    Here c is u less its mean over channels, of which there are twice as many afterwards. Channels
    lie in dimension 1, or are all that ``[K]`` has; an image needs its batch dimension. They are
    split into ``groups``, each with a mean and both sides of its own. The mean is taken as a
    constant by autograd.

    Raises ValueError or TypeError for a ``power`` that is not positive, or ``groups`` that are no
    count; ValueError for a u whose channels they do not divide.

    Source: Coates, Ng 2011 (The importance of encoding versus training), polarity splitting.
    """

    groups: int = 1

    def __init__(self, power: float = 1.0, groups: int = 1) -> None:
        super().__init__()
        self.power: float = positive("power", power)
        self.groups = whole("groups", groups, least=1)

    def forward(self, u: Tensor) -> Tensor:
        channels = _channels(u)
        if self.groups == 1:
            mean = u.detach().mean(dim=channels, keepdim=True)
            both = torch.cat((u - mean, mean - u), dim=channels)
        else:
            parts = u.unflatten(channels, (self.groups, _share(u.shape, channels, self.groups)))
            mean = parts.detach().mean(dim=channels + 1, keepdim=True)
            both = torch.cat((parts - mean, mean - parts), dim=channels + 1)
            both = both.flatten(channels, channels + 1)
        return _power(both.relu_(), self.power)

    def extra_repr(self) -> str:
        return f"power={self.power}" + (f", groups={self.groups}" if self.groups > 1 else "")


class RePU(nn.Module):
    """The rectified power unit ``relu(u) ** power``, shape kept."""

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power: float = positive("power", power)

    def forward(self, u: Tensor) -> Tensor:
        return _power(F.relu(u), self.power)

    def extra_repr(self) -> str:
        return f"power={self.power}"


class Softmax(nn.Module):
    """``softmax(t_invert u)`` over dimension 1, shape kept: the published perceptron's output."""

    def __init__(self, t_invert: float = 1.0) -> None:
        super().__init__()
        self.t_invert: float = positive("t_invert", t_invert)

    def forward(self, u: Tensor) -> Tensor:
        channels = _channels(u)
        largest = u.detach().amax(channels, keepdim=True)
        return torch.softmax(self.t_invert * (u - largest), dim=channels)

    def extra_repr(self) -> str:
        return f"t_invert={self.t_invert}"


class TopShare(nn.Module):
    """The largest ``share`` of the channels less the largest of the others, shape kept.

    ``relu(u - threshold)``: of K channels the ``k = round(share K)`` largest can be active, one at
    least and K - 1 at most. The threshold of a position is its (k + 1)-th largest u, so what equals
    it is 0. Channels lie in dimension 1, or are all that ``[K]`` has; an image needs its batch
    dimension. The threshold is taken as a constant by autograd.

    Raises ValueError or TypeError for a ``share`` that is not between 0 and 1; ValueError for a u
    of fewer than two channels.

    Source: Thiry et al. 2021 (arXiv 2101.07528) keep 40 % of the units, as ones. Here they keep how
    far they are above the threshold, as in Coates et al. 2011.
    """

    def __init__(self, share: float = 0.4) -> None:
        super().__init__()
        self.share: float = between("share", share, 0, 1)

    def forward(self, u: Tensor) -> Tensor:
        channels = _channels(u)
        rank = _inactive(u.shape, channels, self.share)
        threshold = u.detach().kthvalue(rank, dim=channels, keepdim=True).values
        return F.relu(u - threshold)

    def extra_repr(self) -> str:
        return f"share={self.share}"


def _inactive(shape: torch.Size, channels: int, share: float) -> int:
    """How many channels of a u of this shape cannot be active."""
    count = int(shape[channels]) if torch.jit.is_tracing() else shape[channels]
    if count < 2:
        raise ValueError(f"u must have at least 2 channels; got {tuple(shape)}")
    return count - min(max(round(share * count), 1), count - 1)


def _share(shape: torch.Size, channels: int, groups: int) -> int:
    """How many channels of a u of this shape a group has."""
    count = shape[channels]
    if count % groups:
        raise ValueError(f"groups must divide the channels of u, {count}; got {groups}")
    return count // groups


# Symbolic tracing does not know the shape.
torch.fx.wrap("_inactive")
torch.fx.wrap("_share")


def _channels(u: Tensor) -> int:
    return 0 if isinstance(u, Tensor) and u.dim() == 1 else 1


def _power(x: Tensor, power: float) -> Tensor:
    if power == 1:
        return x
    # Torch rounds the exponent to the dtype of x, too. Symbolic tracing knows no dtype.
    if isinstance(x, torch.fx.Proxy) or x.dtype not in SHORT:
        return x**power
    return (x.float() ** power).to(x.dtype)
