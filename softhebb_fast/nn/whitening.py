"""Whitening of patches: their contrast normalised, their elements without correlation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softhebb_fast.checks import fitted_conv2d, put_around
from softhebb_fast.functional.autocast import autocast_disabled, autocasts
from softhebb_fast.kinds import PADDING_MODES
from softhebb_fast.nn.layer import check_sizes
from softhebb_fast.nn.moments import Moments
from softhebb_fast.nn.recording import check_input, convolution_of, recorded
from softhebb_fast.nn.windows import windows
from softhebb_fast.options import Convolution, check_among, pair
from softhebb_fast.scalars import positive, whole

METHODS = ("zca", "pca")
CHUNK = 1 << 21  # numbers of the patches that are looked at together


class PatchWhitening(nn.Module):
    """Images to their whitened patches: ``[B, C, H, W]`` to ``[B, M, OH, OW]``.

    A patch p of N = C·R·S elements becomes z = P (p - m). Here m is the mean of all patches, and P
    comes from the eigenvalues d and eigenvectors E (columns) of their covariance:

    - ``"zca"``: P = E (d + ε)^(-1/2) Eᵀ, M = N; of all whitenings the one nearest to the patch.
    - ``"pca"``: P = (d + ε)^(-1/2) Eᵀ for the M largest d.

    With ``contrast`` every patch first becomes (p - its mean) / sqrt(its variance + contrast). One
    convolution does it all: the filters of ``weight [M, C, R, S]`` sum to zero then, so that the
    patch's mean drops out, its deviation comes from box filters, and ``bias [M]`` is -P m.

    It learns nothing by itself: ``fit`` or ``solve`` sets it, and until then a forward raises
    RuntimeError. ``[C, H, W]`` is a batch of one.

    Args:
        in_channels: C.
        kernel_size: R and S of the patch, an int or a pair; so are ``stride`` and ``padding``.
        padding_mode: as in ``SoftHebbConv2d``.
        epsilon: ε, in the units of the patches' variance, squares of those of ``x`` without
            ``contrast``. Directions of far less variance are damped instead of blown up.
        contrast: added to a patch's variance, in squares of the units of ``x``; for images in
            [0, 1] 1.5e-4 is the 10 of Coates, Ng for bytes. None leaves contrast alone.
        method: ``"zca"`` or ``"pca"``.
        components: M of ``"pca"``; None for N.
        device, dtype: of ``weight`` and ``bias``.

    Raises ValueError and TypeError for arguments and inputs that do not fit, naming them.

    Sources: Bell, Sejnowski 1997; Coates, Ng, Lee 2011; Thiry et al. 2021 (arXiv 2101.07528).
    """

    dilation: tuple[int, int] = (1, 1)
    in_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    padding_mode: str
    method: str
    epsilon: float
    contrast: float | None
    out_channels: int
    patches: int
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        *,
        padding_mode: str = "reflect",
        epsilon: float = 0.1,
        contrast: float | None = None,
        method: str = "zca",
        components: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        (self.in_channels,) = check_sizes(in_channels=in_channels)
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride, self.padding = pair(stride, "stride"), pair(padding, "padding", least=0)
        check_among("padding_mode", padding_mode, PADDING_MODES)
        check_among("method", method, METHODS)
        self.padding_mode, self.method = padding_mode, method
        self.epsilon = positive("epsilon", epsilon)
        self.contrast = None if contrast is None else positive("contrast", contrast)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating point one; got {dtype}")
        shape = self.in_channels, *self.kernel_size
        self.out_channels = size = math.prod(shape)
        if components is not None:
            self.out_channels = whole("components", components, least=1)
            if method != "pca" or self.out_channels > size:
                raise ValueError(
                    f"components must be at most the {size} elements of a patch, and are for "
                    f"method='pca'; got {components} for {method!r}"
                )
        eye = torch.eye(self.out_channels, size, device=device, dtype=dtype)
        self.register_buffer("weight", eye.view(-1, *shape))
        self.register_buffer("bias", eye.new_zeros(self.out_channels))
        self.patches = 0

    def forward(self, x: Tensor) -> Tensor:
        """The whitened patches of ``x``, outside autocast in the dtype of ``weight``."""
        check_input(x)
        if not self.patches:
            raise RuntimeError(
                "PatchWhitening must be fitted before it is used: call fit(images) on images, or "
                "on what the layers below make of them"
            )
        if recorded(x):
            return self.product(x, self.weight, self.bias)
        if autocasts(x.device):
            x = x.to(self.weight.dtype)
        with autocast_disabled(x.device):
            z = self.product(x, self.weight, self.bias)
        return z if x.dim() == 4 else z.squeeze(0)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """What filters ``weight [K, C, R, S]`` and ``bias [K]`` of `folded` give on images ``x``.

        ``[B, K, OH, OW]``: the same as a 1x1 convolution of the whitened patches, which are never
        in memory.
        """
        if not recorded(x):
            x, _ = fitted_conv2d(x, weight, bias, self.convolution)
        if any(self.padding):
            x = put_around(x, self.padding, self.padding, self.padding_mode)
        product = convolution_of(x)
        with _float32_products(x):
            if self.contrast is None:
                return product(x, weight, bias, self.stride)
            u = product(x, weight, None, self.stride) / self._deviations(x, self.contrast)
        return u + bias.view(-1, 1, 1)

    def folded(self, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The filters ``[K, C, R, S]`` and biases ``[K]`` of one convolution of images.

        It does what `forward` and a 1x1 convolution by ``weight [K, M, 1, 1]`` and ``bias`` do,
        but for `contrast`, which `product` adds.
        """
        rows = weight.flatten(1)
        filters = (rows @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        shift = rows @ self.bias
        return filters, shift if bias is None else shift + bias

    @torch.no_grad()
    def fit(self, images: Tensor | Iterable[Tensor]) -> PatchWhitening:
        """Whiten by all patches of ``images [B, C, H, W]``, or of an iterable of such batches.

        Returns itself. Raises as `solve` does, ValueError for images that do not fit, TypeError for
        what holds none.
        """
        if not isinstance(images, Iterable):
            raise TypeError(f"images must be a tensor or several; got {images!r}")
        moments = self.moments()
        for x in [images] if isinstance(images, Tensor) else images:
            self.observe(moments, x)
        return self.solve(moments)

    @property
    def convolution(self) -> Convolution:
        return Convolution(self.stride, self.padding, padding_mode=self.padding_mode)

    def moments(self) -> Moments:
        """Moments of no patch yet, for `observe`."""
        return Moments(self.weight[0].numel(), self.weight.device)

    @torch.no_grad()
    def observe(self, moments: Moments, x: Tensor) -> None:
        """Take the patches of a batch ``x [B, C, H, W]`` into ``moments``."""
        check_input(x)
        if x.dim() != 4:
            raise ValueError(f"images must be [B, {self.in_channels}, H, W]; got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"images must be floating point; got {x.dtype}")
        if not len(x):
            return
        fitted_conv2d(x[:1].to(self.weight), self.weight, None, self.convolution)
        geometry = self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode
        an_image = windows(x[:1], *geometry).numel()
        for part in x.split(max(1, CHUNK // an_image)):
            patches = windows(part, *geometry).reshape(-1, moments.mean.numel()).double()
            if self.contrast is not None:
                variance, mean = torch.var_mean(patches, dim=1, correction=0, keepdim=True)
                patches = (patches - mean) / (variance + self.contrast).sqrt()
            moments.add(patches)

    @torch.no_grad()
    def solve(self, moments: Moments) -> PatchWhitening:
        """Set ``weight`` and ``bias`` by the mean and covariance of ``moments``; returns itself.

        Raises ValueError for fewer than two patches, some that are not finite, and an epsilon so
        small that `weight` would not be; the whitening is then as it was.
        """
        values, vectors = torch.linalg.eigh(moments.covariance().cpu())
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1).T  # rows, largest first
        # Either sign is an eigenvector: that of the largest element is made positive.
        largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
        vectors = vectors * largest.sign()
        matrix = vectors / (values + self.epsilon).sqrt().unsqueeze(1)
        matrix = vectors.T @ matrix if self.method == "zca" else matrix[: self.out_channels]
        bias = -matrix @ moments.mean.cpu()
        if self.contrast is not None:
            matrix = matrix - matrix.mean(dim=1, keepdim=True)
        weight, bias = matrix.view_as(self.weight).to(self.weight.dtype), bias.to(self.bias.dtype)
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ValueError(
                f"epsilon must be larger for filters that are finite in {self.weight.dtype}; "
                f"got {self.epsilon:g}"
            )
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.patches = moments.count
        return self

    def _deviations(self, x: Tensor, contrast: float) -> Tensor:
        """sqrt(variance + contrast) of every patch of padded images, ``[B, 1, OH, OW]``."""
        wide = x.double()  # the square of a mean is subtracted from a mean of squares
        sums = torch.stack((wide.mean(dim=-3), wide.square().mean(dim=-3)), dim=-3)
        mean, square = F.avg_pool2d(sums, self.kernel_size, self.stride).split(1, dim=-3)
        return ((square - mean.square()).clamp_min(0) + contrast).sqrt().to(x.dtype)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}patches"] = torch.tensor(self.patches)

    def _load_from_state_dict(
        self,
        state_dict: dict,
        prefix: str,
        metadata: dict,
        strict: bool,
        missing: list[str],
        *rest: Any,
    ) -> None:
        patches = state_dict.pop(f"{prefix}patches", None)
        if patches is not None:
            self.patches = whole("patches", patches, least=0)
        elif strict:
            missing.append(f"{prefix}patches")
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *rest)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        for name, usual in (("stride", (1, 1)), ("padding", (0, 0))):
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        if self.padding != (0, 0):
            text += f", padding_mode={self.padding_mode!r}"
        text += f", epsilon={self.epsilon}, contrast={self.contrast}, method={self.method!r}"
        return text if self.patches else f"{text}, not fitted"


@contextmanager
def _float32_products(x: Tensor) -> Iterator[None]:
    """Keep cuDNN from TF32: small variances blow its errors up, and flat patches' contrast more."""
    if recorded(x) or torch.compiler.is_compiling() or not x.is_cuda:
        yield
        return
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
