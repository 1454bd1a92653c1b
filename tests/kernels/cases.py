"""Small odd layers that together reach every branch of the kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softhebb_fast.kinds import WTA
from softhebb_fast.options import Competition, Epilogue

CONV = {
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
    "t_invert": 1.0,
    "wta": "soft_anti",
    "delta": 2.0,
    "rank": 3,
    "padding_mode": "reflect",
    "pre_triangle": False,
    "x_bound": None,
    "lebesgue_p": 2.0,
    "tie_rule": "first",
}
LINEAR = {name: CONV[name] for name in Competition._fields}


class Case(NamedTuple):
    x: tuple[int, ...] = (2, 3, 7, 6)
    w: tuple[int, ...] = (21, 3, 3, 3)
    options: dict = {}  # noqa: RUF012
    bias: bool = False
    layout: str = "contiguous"

    @property
    def conv(self) -> dict:
        return CONV | self.options

    @property
    def fits_one_pass(self) -> bool:
        _, channels, rows, columns = self.w
        grouped_mean = self.conv["pre_triangle"] and self.conv["groups"] > 1
        plain = self.conv["lebesgue_p"] == 2 and not grouped_mean
        return plain and self.w[0] <= 128 and channels * rows * columns <= 80

    def tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        torch.manual_seed(len(str(self)))
        x, w = torch.randn(self.x), torch.randn(self.w) / 3
        x, w = _LAYOUTS[self.layout](x.to(dtype)), w.to(dtype)
        if self.layout == "channels_last":
            w = w.to(memory_format=torch.channels_last)
        bias = torch.randn(self.w[0]).to(dtype) / 8 if self.bias else None
        return x, w, bias


_LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "mixed": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: torch.cat([x, x], dim=3)[..., : x.shape[3]],
}
WIDE = {"x": (2, 48, 5, 4), "w": (20, 48, 3, 3)}  # three chunks of channels

CASES = {wta: Case(options={"wta": wta}) for wta in WTA} | {
    "soft_anti": Case(),
    "soft": Case(options={"wta": "soft", "t_invert": 3.0}),
    "hard_anti-rank1": Case(options={"wta": "hard_anti", "rank": 1}),
    "zeros": Case(options={"padding_mode": "zeros", "padding": (2, 1)}),
    "replicate": Case(options={"padding_mode": "replicate", "padding": (2, 1)}),
    "circular": Case(options={"padding_mode": "circular", "padding": (2, 1)}),
    "unpadded": Case(options={"padding": (0, 0)}),
    "strided": Case(options={"stride": (2, 1), "dilation": (1, 2), "padding": (0, 2)}),
    "bias": Case(bias=True),
    "bias-soft": Case(bias=True, options={"wta": "soft"}),
    "bias-hard": Case(bias=True, options={"wta": "hard"}),
    "pre_triangle": Case(options={"pre_triangle": True}),
    "pre_triangle-groups": Case(
        w=(24, 1, 3, 3), options={"pre_triangle": True, "groups": 3, "wta": "hard_anti"}
    ),
    "lebesgue": Case(options={"lebesgue_p": 3.0, "t_invert": 0.2}),
    "lebesgue-1.5": Case(options={"lebesgue_p": 1.5}),
    "groups": Case(w=(24, 1, 3, 3), options={"groups": 3}),
    "one-neuron": Case(w=(1, 3, 3, 3)),
    "one-position": Case(x=(1, 3, 3, 3), options={"padding": (0, 0)}),
    "gray": Case(x=(3, 1, 7, 7), w=(33, 1, 5, 5), options={"padding": (2, 2)}),
    "gray-last": Case(
        x=(3, 1, 7, 7), w=(33, 1, 5, 5), layout="channels_last", options={"padding": (2, 2)}
    ),
    "colour": Case(x=(2, 3, 9, 8), w=(20, 3, 5, 5), bias=True, options={"padding": (2, 2)}),
    "tiles": Case(w=(150, 3, 3, 3)),
    "tiles-hard": Case(w=(150, 3, 3, 3), options={"wta": "hard"}),
    "tiles-hard_anti": Case(w=(150, 3, 3, 3), options={"wta": "hard_anti"}),
    "channels_last": Case(**WIDE, layout="channels_last"),
    "channels_last-groups": Case(
        x=(2, 32, 5, 4), w=(20, 16, 3, 3), options={"groups": 2}, layout="channels_last"
    ),
    "channels_last-odd": Case(layout="channels_last"),
    "mixed": Case(**WIDE, layout="mixed"),
    "sliced": Case(layout="sliced"),
    "splits": Case(x=(3, 2, 17, 13), w=(18, 2, 3, 3)),
}

# windows that overlap or not, of whole blocks or not, larger than their stride or smaller
POOLS = {
    "none": Epilogue(True, 1.4),
    "max-4-2-1": Epilogue(True, 0.7, "max", (4, 4), (2, 2), (1, 1)),
    "max-2-2-0": Epilogue(True, 1.0, "max", (2, 2), (2, 2)),
    "max-3-2-1": Epilogue(True, 0.5, "max", (3, 3), (2, 2), (1, 1)),
    "max-1-2-0": Epilogue(False, 1.0, "max", (1, 1), (2, 2)),
    "avg-2-2-0": Epilogue(True, 1.4, "avg", (2, 2), (2, 2)),
    "avg-4-2-1": Epilogue(True, 2.0, "avg", (4, 4), (2, 2), (1, 1)),
    "avg-3-3-1": Epilogue(False, 2.0, "avg", (3, 3), (3, 3), (1, 1)),
    "avg-4x2-4x1-2x0": Epilogue(True, 1.0, "avg", (4, 2), (4, 1), (2, 0)),
    "max-2-1-1": Epilogue(True, 1.0, "max", (2, 2), (1, 1), (1, 1)),
    "avg-3-1-1": Epilogue(False, 1.0, "avg", (3, 3), (1, 1), (1, 1)),
}
