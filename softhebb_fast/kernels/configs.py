"""The launch configuration of a kernel, chosen by shape, precision and architecture."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from triton import knobs

from softhebb_fast.environment import switched_on
from softhebb_fast.kernels.geometry import SHAPES, Geometry
from softhebb_fast.kernels.tables import (
    CONTIGUOUS,
    FAMILIES,
    IN_TILE,
    KEPT,
    NARROW,
    OLDEST,
    ONE_PASS,
    ONE_PASS_OF_BLOCKS,
    ONE_PASS_OF_RULES,
    ONE_TAP,
    PROCESSORS,
    SCARCE,
    SUMMED,
    SUMMED_WIDE,
    TABLE,
    WASTE,
    Config,
)
from softhebb_fast.precision import torch_default

WAIT = "SOFTHEBB_FAST_WAIT"
TERMS = {"tf32": 1, "tf32x3": 2, "bf16x6": 2}  # of float16, by how products are taken
Choice = dict[str, Config | None]
_CHOSEN: ContextVar[Choice] = ContextVar("chosen", default={})  # noqa: B039


@contextmanager
def chosen(choice: Choice) -> Iterator[None]:
    """Let ``choice`` go before the tables: kernel by name to configuration; ``one_pass`` to None
    where two kernels are to do its work. With ``activity`` forward leaves y to it, and with
    ``last_wave``, which is None, no program of plasticity shares a tile of it."""
    token = _CHOSEN.set(choice)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


@functools.cache
def architecture(device: torch.device) -> int:
    """Compute capability times ten; 0 on AMD. Tensors elsewhere stand for an H100."""
    if device.type != "cuda":
        return 90
    if torch.version.hip is not None:
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def processors(device: torch.device) -> int:
    """Programs that surely run at a time. The interpreter runs one; tensors elsewhere than on CUDA
    stand for an H100."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return 1 if knobs.runtime.interpret else PROCESSORS


def precision(dtype: torch.dtype) -> str:
    """How products of ``dtype`` are taken: ``ieee``, ``tf32`` or ``tf32x3``.

    ``SOFTHEBB_FAST_PRECISION`` names it; else float32 follows torch (``precision.of_torch``).
    16-bit products are exact in any case.
    """
    if dtype != torch.float32:
        return "ieee"
    chosen = os.environ.get("SOFTHEBB_FAST_PRECISION")
    if chosen is None:
        return torch_default()
    if chosen not in ("ieee", "tf32", "tf32x3", "bf16x6"):
        raise ValueError(
            f"SOFTHEBB_FAST_PRECISION must be ieee, tf32, tf32x3 or bf16x6; got {chosen!r}"
        )
    return chosen


def forward(
    G: Geometry,
    positions: int,
    dtype: torch.dtype,
    arch: int,
    learns: bool = True,
    summed: bool = False,
) -> Config:
    measured = _CHOSEN.get().get("forward")
    return measured or _forward(G, positions, _numbers(dtype), arch, learns, summed)


@functools.lru_cache(SHAPES)
def _forward(
    G: Geometry, positions: int, numbers: str, arch: int, learns: bool, summed: bool
) -> Config:
    def programs(c: Config) -> int:
        return -(-positions // c.BM) * -(-G.K // c.BN) * G.GROUPS

    config = _choose("forward", numbers, arch, G, programs)
    if not summed:
        return config
    scarce = SUMMED | (SUMMED_WIDE if config.BN > 128 else {})
    key = (_family(arch), numbers, learns)
    return _covering(scarce[key], G) if key in scarce else config


def listed(kernel: str, G: Geometry, dtype: torch.dtype, arch: int) -> list[Config]:
    """The configurations of the table that suit the architecture, for a layer."""
    return [_covering(c, G) for c, _ in _suited(kernel, _numbers(dtype), arch)]


def in_tile(G: Geometry, dtype: torch.dtype) -> Config | None:
    """The configuration of a forward kernel that pools, or None where neurons take two tiles."""
    config = IN_TILE[_numbers(dtype)]
    return _covering(config, G) if G.K <= config.BN else None


def plasticity(
    G: Geometry, positions: int, dtype: torch.dtype, arch: int, scarce: bool = False
) -> Config:
    measured = _CHOSEN.get().get("plasticity")
    return measured or _plasticity(G, positions, _numbers(dtype), arch, scarce)


@functools.lru_cache(SHAPES)
def _plasticity(G: Geometry, positions: int, numbers: str, arch: int, scarce: bool) -> Config:
    if scarce:
        return _covering(SCARCE[max(1, TERMS.get(numbers, 0))], G)
    one_tap = G.CHANNELS_LAST and (G.R * G.S == 1 or G.CHUNK % 128 == 0)
    own = ONE_TAP.get(numbers) if one_tap else None
    if not G.CHANNELS_LAST:
        own = CONTIGUOUS.get((_family(arch), numbers))
    if own is not None:
        return _covering(own, G)

    def programs(c: Config) -> int:
        """Those that a tile split for a program every 16 steps would have, and at most 16 ways:
        what was split must be added up."""
        steps = min(-(-positions // c.BM), 256)
        return -(-G.K // c.BN) * -(-G.P // c.BP) * G.GROUPS * steps // 16

    return _choose("plasticity", numbers, arch, G, programs)


def float16_terms(dtype: torch.dtype) -> int:
    """Terms of float16 that make up a factor of plasticity; 0 where it is taken as it is."""
    return TERMS.get(_numbers(dtype), 0)


def absmax_programs(values: int) -> int:
    """Programs that look for the largest of so many values, 2048 of them at a time."""
    return min(64, -(-values // 2048))


def halves(G: Geometry, positions: int, w: Tensor) -> bool:
    """Whether forward multiplies 16-bit factors in tf32: twice as fast, but the filters must be
    written so first. Computed: 2 K P a position at some 250 TFLOP/s or 450, against 6 bytes a
    weight at 2.5 TB/s and 2 microseconds more of a launch."""
    arch, weights = architecture(w.device), G.neurons * G.P
    if _numbers(w.dtype) != "tf32" or arch < 80 or G.P > 8192 or w.nbytes > KEPT:
        return False
    return positions > 670 + 5.6e8 / weights


def why_not_wait(device: torch.device) -> str | None:
    """Why programs may never wait for each other there, or None.

    Raises ValueError for a value of the variable that is neither 0 nor 1.
    """
    if not switched_on(WAIT, default=True):
        return f"{WAIT}=0"
    return None if architecture(device) else "nobody has seen yet that they may on AMD"


def most_tiles(device: torch.device) -> int:
    """Of neurons, whose programs run concurrently beside launches of three other streams."""
    return processors(device) // 4


def fuse_activity(
    G: Geometry, w: Tensor, config: Config, device: torch.device, competes: bool = True
) -> bool:
    """Whether forward makes y as well. Where neurons of several tiles compete, its programs of the
    same positions run concurrently then, and what weights of a group it reads anew for other
    positions lie in the L2: groups take turns."""
    if "activity" in _CHOSEN.get():
        return False
    tiles = -(-G.K // config.BN) if competes else 1
    near = tiles <= most_tiles(device) and w.nbytes <= KEPT * G.GROUPS
    return tiles == 1 or (near and why_not_wait(device) is None)


def u_in_registers(config: Config, dtype: torch.dtype, arch: int, activity: str) -> bool:
    """Whether the registers of forward hold y beside its tile of u, and spill nothing."""
    if activity == "threshold" and config.BN > 64:
        return False
    tf32 = _numbers(dtype) == "tf32" and (_family(arch) < 100 or config.BN < 64)
    return config.BN <= 128 and (tf32 or _numbers(dtype) == "16")


def activity(G: Geometry) -> Config:
    if G.U_CHANNELS_LAST:
        return Config(32, 128, 0, 16, 1)
    return Config(64, 32, 0, 4, 1)


def parts(G: Geometry, positions: int) -> int:
    """Parts of the positions that programs of activity take: many, but sums of few to add up."""
    tiles = -(-positions // activity(G).BM)
    return -(-tiles // -(-tiles // 128))


def one_pass(G: Geometry, dtype: torch.dtype, arch: int) -> Config | None:
    """The configuration of the one-pass kernel, or None where the layer does not fit it."""
    config = ONE_PASS.get((_family(arch), _numbers(dtype)))
    if config is None or G.K > config.BN or G.P > 80:
        return None
    measured = _CHOSEN.get()
    if "one_pass" in measured:
        return measured["one_pass"]
    return config._replace(BN=_cover(G.K, 128), BP=_cover(G.P, 64))


def one_pass_of_blocks(G: Geometry, config: Config, arch: int) -> bool:
    """Whether the registers of the one-pass kernel hold what pooling needs, and spill nothing."""
    return arch in ONE_PASS_OF_BLOCKS or rest(G, config) == 0


def one_pass_of_rules(arch: int) -> bool:
    """Whether the registers of the one-pass kernel hold what any rule needs, and spill nothing.

    On sm_80 they do not.
    """
    return _family(arch) in ONE_PASS_OF_RULES


def rest(G: Geometry, config: Config) -> int:
    """Elements of a patch beyond the first BP, up to a power of two."""
    return _cover(G.P - config.BP, 16) if G.P > config.BP else 0


def without_matrix_units(dtype: torch.dtype, arch: int) -> bool:
    return _numbers(dtype) == "ieee" and arch > 0


def one_pass_splits(positions: int, config: Config) -> int:
    """Ranges of positions: a program a multiprocessor of a large GPU."""
    steps = -(-positions // config.BM)
    return -(-steps // -(-steps // PROCESSORS))


def splits(G: Geometry, positions: int, config: Config) -> int:
    """Ranges of positions: a program a multiprocessor, or two where both have a long loop."""
    programs = -(-G.K // config.BN) * -(-G.P // config.BP) * G.GROUPS
    steps = -(-positions // config.BM)
    twice = max(1, 2 * PROCESSORS // programs)
    most = twice if steps >= 32 * twice else max(1, PROCESSORS // programs)
    return -(-steps // max(4, -(-steps // most)))


def last_wave(G: Geometry, positions: int, config: Config) -> tuple[int, int]:
    """Tiles of plasticity before its last wave, of a program each, and programs that share each of
    those left, if these leave half of the multiprocessors idle; else 0 and 1. Of eight waves or
    more one that is half idle is little."""
    tiles = -(-G.K // config.BN) * -(-G.P // config.BP)
    steps, (waves, left) = -(-positions // config.BM), divmod(tiles, PROCESSORS)
    if G.GROUPS > 1 or not 1 <= waves < 8 or not left or "last_wave" in _CHOSEN.get():
        return 0, 1
    most = min(PROCESSORS // left, 16)
    programs = -(-steps // max(4, -(-steps // most)))
    return (tiles - left, programs) if programs > 1 else (0, 1)


def reduce_splits(G: Geometry) -> Config:
    """A neuron of a layer of one pass; BM ranges of positions are summed at a time."""
    return Config(32, 0, _cover(G.P, 128), 4, 1)


def pool(neurons: int, channels_last: bool, out_y: int, out_x: int) -> dict[str, int]:
    """Rows, columns and neurons of a tile of the pooled map; four warps."""
    if channels_last:
        rows, columns = (4 if n > 2 else 2 for n in (out_y, out_x))
        return {"BY": rows, "BX": columns, "BN": _cover(neurons, 128)}
    return {"BY": 4, "BX": _cover(out_x, 32), "BN": 16}


def filters(G: Geometry) -> Config:
    """Whole filters, made 16-bit factors."""
    elements = _cover(G.P, 8192)
    return Config(0, max(1, 4096 // elements), elements, 4, 1)


def apply(G: Geometry) -> Config:
    columns = _cover(G.P, 512)
    return Config(0, max(1, 2048 // columns), columns, 4, 1)


def compete(G: Geometry) -> Config:
    neurons = _cover(G.K, 1 << 20)
    return Config(max(1, 4096 // neurons), neurons, 0, 4 if neurons <= 4096 else 8, 1)


def _choose(
    kernel: str, numbers: str, arch: int, G: Geometry, programs: Callable[[Config], int]
) -> Config:
    narrow = NARROW.get((arch, kernel, numbers))
    if narrow is not None and not (G.CHANNELS_LAST and G.C % 16 == 0):
        return _covering(narrow, G)
    suited = _suited(kernel, numbers, arch)
    smallest, *filling = [c for c, least in suited if programs(c) >= least]
    waste = WASTE * _padded(filling[0], G) if filling else 0
    chosen = [c for c in filling if _padded(c, G) < waste]
    return _covering(chosen[-1] if chosen else smallest, G)


def _suited(kernel: str, numbers: str, arch: int) -> list[tuple[Config, int]]:
    """The rows of the table for an architecture: a configuration, the programs it must have."""
    return [(c, least) for c, least, those in TABLE[kernel, numbers] if _family(arch) in those]


def _covering(config: Config, G: Geometry) -> Config:
    return config._replace(BN=_cover(G.K, config.BN), BP=_cover(G.P, config.BP))


def _padded(config: Config, G: Geometry) -> int:
    """Weights, counting what the tiles add."""
    neurons, elements = -(-G.K // config.BN) * config.BN, -(-G.P // config.BP) * config.BP
    return neurons * elements


def _family(arch: int) -> int:
    return FAMILIES.get(arch, OLDEST)


def _numbers(dtype: torch.dtype) -> str:
    return precision(dtype) if dtype == torch.float32 else "16"


def _cover(n: int, limit: int) -> int:
    """The least power of two from 16 on that holds n, or ``limit``."""
    return min(limit, max(16, 1 << (n - 1).bit_length()))
