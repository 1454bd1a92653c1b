"""The launch configurations that are known: by kernel, precision and architecture."""

from __future__ import annotations

from typing import NamedTuple


class Config(NamedTuple):
    """Tile sizes (positions, neurons, patch elements), warps and pipeline stages."""

    BM: int
    BN: int
    BP: int
    warps: int
    stages: int

    @property
    def tiles(self) -> dict[str, int]:
        return {"BM": self.BM, "BN": self.BN, "BP": self.BP}


# Whose configurations an architecture takes: (compute capability times ten, 0 for AMD), else those
# of 80, which need neither its shared memory nor instructions of its own: 120 spills with 100's.
FAMILIES = {0: 0, 90: 90, 100: 100, 103: 100}
OLDEST = 80  # of NVIDIA's: Triton has no matrix instructions for those before
# (kernel, precision): configurations from the smallest tile to the largest, each with the programs
# it must have at least and the architectures that take it without spilling (0 is AMD). The first is
# for layers of few positions; else the last is taken that fits and does not waste much more of its
# tiles than the second. What is for 90 was measured on an H100.
ALL = (0, 80, 90, 100)
ONE_PRODUCT = (  # of factors of 16 bits
    (Config(64, 128, 64, 4, 4), 0, ALL),
    (Config(64, 128, 128, 8, 3), 132, (80, 100)),
    (Config(64, 128, 128, 4, 3), 132, (0, 90)),
)
TABLE = {
    ("forward", "16"): (
        (Config(64, 32, 64, 4, 4), 0, ALL),
        (Config(64, 128, 64, 4, 3), 60, (0, 80, 100)),
        (Config(64, 128, 64, 4, 4), 60, (90,)),
        (Config(128, 128, 64, 8, 3), 60, (0, 100)),
        (Config(128, 128, 64, 8, 4), 132, (90,)),
    ),
    ("forward", "tf32"): (
        (Config(64, 32, 64, 4, 4), 0, ALL),
        (Config(64, 128, 32, 4, 3), 60, (0, 80, 100)),
        (Config(64, 128, 32, 4, 4), 60, (90,)),
        (Config(128, 128, 32, 8, 3), 60, (0, 80, 100)),
        (Config(128, 256, 32, 8, 3), 132, (90,)),
    ),
    ("forward", "tf32x3"): (
        (Config(64, 32, 32, 4, 3), 0, (0, 80, 90)),
        (Config(64, 32, 32, 8, 3), 0, (100,)),
        (Config(64, 64, 16, 4, 3), 60, (80, 100)),
        (Config(64, 128, 16, 4, 3), 60, (90,)),
        (Config(64, 128, 32, 4, 3), 60, (90,)),
        (Config(128, 128, 32, 8, 3), 132, (90,)),
    ),
    ("forward", "bf16x6"): (
        (Config(64, 32, 32, 4, 3), 0, ALL),
        (Config(64, 128, 32, 4, 2), 60, (90,)),
        (Config(64, 128, 32, 8, 2), 60, (80, 100)),
        (Config(128, 128, 32, 8, 2), 132, (90,)),
    ),
    ("forward", "ieee"): (
        (Config(32, 32, 32, 4, 3), 0, ALL),
        (Config(64, 64, 16, 8, 1), 60, (0, 80, 100)),
        (Config(64, 128, 16, 4, 1), 60, (90,)),
        (Config(64, 128, 32, 4, 1), 60, (90,)),
    ),
    ("plasticity", "16"): ONE_PRODUCT,
    ("plasticity", "tf32"): ONE_PRODUCT,
    ("plasticity", "tf32x3"): (
        (Config(64, 128, 64, 4, 3), 0, (0, 90, 100)),
        (Config(32, 128, 64, 8, 3), 0, (80,)),
        (Config(32, 128, 128, 8, 3), 132, ALL),
    ),
    ("plasticity", "bf16x6"): (
        (Config(64, 128, 64, 4, 3), 0, (0, 90, 100)),
        (Config(32, 128, 64, 8, 3), 0, (80,)),
        (Config(32, 128, 128, 8, 2), 132, (80,)),
        (Config(32, 128, 128, 8, 3), 132, (0, 90, 100)),
    ),
    ("plasticity", "ieee"): (
        (Config(32, 32, 32, 4, 2), 0, ALL),
        (Config(32, 128, 64, 8, 1), 60, (80,)),
        (Config(32, 128, 128, 8, 1), 60, (0, 90, 100)),
    ),
}
ONE_TAP = {  # of plasticity where a tile of patches is channels of one tap
    "tf32x3": Config(32, 64, 128, 4, 3),
    "ieee": Config(32, 64, 64, 4, 2),
}
CONTIGUOUS = {  # and where a patch has no run of channels
    (90, "bf16x6"): Config(64, 64, 64, 8, 3),
    (100, "bf16x6"): Config(64, 64, 64, 8, 3),
}
# of 120 and 121, which spill with 80's where runs of channels are short, or none
NARROW = {(arch, "forward", "tf32"): Config(64, 128, 32, 8, 2) for arch in (120, 121)}
# where registers are scarce, by the terms of a factor: y is float32 and scaled as it is loaded, or
# the patches of a first layer are of few channels
SCARCE = {1: Config(64, 64, 64, 4, 3), 2: Config(32, 64, 64, 4, 3)}
# where the tile is pooled, or summed for a mean, registers are scarcer
IN_TILE = {
    "16": Config(64, 128, 32, 8, 3),
    "tf32": Config(64, 128, 32, 8, 3),
    "tf32x3": Config(64, 64, 16, 4, 3),
    "bf16x6": Config(64, 64, 32, 4, 2),
    "ieee": Config(64, 64, 16, 8, 1),
}
SUMMED = {  # the last of the key: whether the layer learns
    (80, "16", True): Config(64, 128, 64, 8, 3),
    (100, "16", True): Config(64, 128, 32, 8, 3),
    (100, "bf16x6", True): Config(64, 64, 32, 4, 2),
    (90, "bf16x6", False): Config(64, 128, 32, 8, 2),
    (90, "ieee", False): Config(32, 64, 16, 8, 1),
}
SUMMED_WIDE = {(90, "tf32", True): Config(128, 128, 32, 8, 3)}  # and for a tile that is wider
PROCESSORS = 132  # multiprocessors of a large GPU
KEPT = 25e6  # bytes of a group's weights that its L2 still holds when the next positions want them
WASTE = 1.2
# (architecture, precision). What is missing would spill registers, or, without matrix units, is
# faster in two kernels.
ONE_PASS = {
    (100, "16"): Config(16, 128, 64, 8, 2),
    (100, "tf32"): Config(16, 128, 64, 8, 2),
    (100, "tf32x3"): Config(16, 128, 64, 8, 1),
    (90, "16"): Config(32, 128, 64, 8, 1),
    (90, "tf32"): Config(32, 128, 64, 8, 1),
    (90, "tf32x3"): Config(16, 128, 64, 8, 1),
    (80, "16"): Config(16, 128, 64, 8, 1),
    (80, "tf32"): Config(16, 128, 64, 8, 1),
    (0, "16"): Config(16, 128, 64, 4, 1),
    (0, "tf32"): Config(16, 128, 64, 4, 1),
    (0, "ieee"): Config(16, 128, 64, 4, 1),
}
ONE_PASS_OF_RULES = (0, 90)  # architectures that take any rule so, not SoftHebb alone
# and those that take a block so whose patches are larger than BP
ONE_PASS_OF_BLOCKS = (0, 80, 90, 100, 103)
