"""Compile the launches of a layer for GPUs that are not here, and read what came out.

Nothing runs: a layer is called with its launches recorded, every launch is compiled for
a target, and the machine code is disassembled with the tools that Triton ships.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from softhebb_fast.kernels import configs, launch

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90a": GPUTarget("cuda", 90, 32),
    "sm_100a": GPUTarget("cuda", 100, 32),
    "sm_120a": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ARCHITECTURES = {"sm_80": 80, "sm_90a": 90, "sm_100a": 100, "sm_120a": 120, "gfx942": 0}
SM = {  # bytes of shared memory and warps of a multiprocessor
    "sm_80": (167936, 64),
    "sm_90a": (233472, 64),
    "sm_100a": (233472, 64),
    "sm_120a": (102400, 48),
}
SIDES = ("BM", "BN", "BP", "BB", "BC", "BF")
POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float64: "*fp64",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


class Launch(NamedTuple):
    """One recorded launch."""

    kernel: object
    grid: tuple[int, ...]
    config: object
    arguments: dict[str, object]  # a constant that is left out has its default

    @property
    def name(self) -> str:
        return self.kernel.__name__.removesuffix("_kernel")

    @property
    def tile(self) -> str:
        """The sides of its tile, of a layer's kernel or of the classifier's."""
        constants = self.constants
        return "x".join(str(constants[side]) for side in SIDES if side in constants)

    @property
    def fixed(self) -> set[str]:
        """The names of the arguments that the kernel is compiled for."""
        parameters = inspect.signature(self.kernel.fn).parameters.values()
        return {p.name for p in parameters if p.annotation in (tl.constexpr, "tl.constexpr")}

    @property
    def constants(self) -> dict[str, object]:
        """What the kernel is compiled for, by name: of tuples by their own, G and E but whole."""
        found = {}
        for name in self.fixed & self.arguments.keys():
            value = self.arguments[name]
            whole = name in ("G", "E") or not isinstance(value, tuple)
            found |= {name: value} if whole else value._asdict()
        return found

    @property
    def tiles(self) -> tuple[int, int]:
        """Of forward, down the positions and across the neurons."""
        across = -(-self.constants["G"].K // self.constants["BN"])
        return self.grid[0] // across, across

    @property
    def given(self) -> list[tuple[str, object]]:
        """The arguments that are no constants, in order: those of tuples by their own names."""
        found = []
        for name in self.kernel.arg_names:
            if name not in self.fixed:
                value = self.arguments[name]
                found += value._asdict().items() if isinstance(value, tuple) else [(name, value)]
        return found

    @property
    def named(self) -> dict[str, object]:
        """What is given by name; of two of one name the one that is not None."""
        found = {}
        for name, value in self.given:
            if value is not None or name not in found:
                found[name] = value
        return found

    def source(self) -> tuple[ASTSource, list]:
        """What Triton would compile for these arguments, and the arguments left at run time."""
        signature, constants, attributes, left = {}, {}, {}, []

        def kind(path: tuple[int, ...], value: object) -> str:
            special = not self.kernel.params[path[0]].do_not_specialize
            if value is None or (isinstance(value, int) and value == 1 and special):
                constants[path] = value
                return "constexpr"
            left.append(value)
            if isinstance(value, torch.Tensor):
                found = POINTERS[value.dtype]
                aligned = value.storage_offset() * value.element_size() % 16 == 0
            elif isinstance(value, float):
                found, aligned = "fp32", False
            else:
                found = "i32" if value < 2**31 else "i64"
                aligned = special and value % 16 == 0
            if aligned:
                attributes[path] = [["tt.divisibility", 16]]
            return found

        for i, name in enumerate(self.kernel.arg_names):
            value = self.arguments.get(name, self.kernel.params[i].default)
            if name in self.fixed:
                signature[name], constants[(i,)] = "constexpr", value
            elif isinstance(value, tuple):
                signature[name] = type(value)(*(kind((i, j), v) for j, v in enumerate(value)))
            else:
                signature[name] = kind((i,), value)
        return ASTSource(self.kernel, signature, constants, attributes), left

    def replaced(self, tensors: dict[int, torch.Tensor]) -> Launch:
        """The same with other tensors, by the ``id`` of the old ones."""

        def new(value: object) -> object:
            if isinstance(value, tuple):
                return type(value)(*map(new, value))
            return tensors.get(id(value), value)

        own = {n: v if n in self.fixed else new(v) for n, v in self.arguments.items()}
        return self._replace(arguments=own)

    def compile(self, target: str):
        options = launch.options(self.config, self.arguments)
        return triton.compile(self.source()[0], target=TARGETS[target], options=options)


@contextmanager
def launches_go_to(
    run: Callable[[Launch], object], target: str, overlaps: bool = False
) -> Iterator[None]:
    """Configure for ``target``, hand every launch to ``run`` and keep it from the device.

    ``overlaps``: launches may begin before the one ahead of them ends.
    """
    kept = launch.launch, configs.architecture
    switch = {"OVERLAPS": True} if overlaps else {}
    launch.launch = lambda *to, **arguments: run(Launch(*to, arguments | switch))
    configs.architecture = lambda device: ARCHITECTURES[target]
    try:
        yield
    finally:
        launch.launch, configs.architecture = kept


def record(call: Callable[[], object], target: str, overlaps: bool = False) -> list[Launch]:
    found: list[Launch] = []
    with launches_go_to(found.append, target, overlaps):
        call()
    return found


def resources(compiled, target: str) -> dict[str, int | str]:
    """Registers, spills, shared memory, occupancy, matrix instructions and widest loads."""
    if target.startswith("gfx"):
        return _amd(compiled)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "k.cubin")
        cubin.write_bytes(compiled.asm["cubin"])
        usage = _tool("cuobjdump", "--dump-resource-usage", cubin)
        sass = _tool("nvdisasm", "-c", cubin)
    registers, stack = (int(re.search(rf"{k}:(\d+)", usage).group(1)) for k in ("REG", "STACK"))
    warps = int(re.search(r"\.reqntid\s+(\d+)", compiled.asm["ptx"]).group(1)) // 32
    loop = innermost(sass)
    wide = [op for op in loop if re.match(r"LDG(?!DEPBAR)", op)]
    return {
        "registers": registers,
        "spills": stack,  # bytes a thread: these kernels have nothing else there
        "shared": compiled.metadata.shared,
        "warps": warps,
        "occupancy": occupancy(target, registers, warps, compiled.metadata.shared),
        "matrix": next((k for k in ("HGMMA", "UTCHMMA", "HMMA") if _any(k, loop)), ""),
        "loop_loads": len(wide),
        "loop_loads_128": sum(".128" in op for op in wide),
        "loop_instructions": len(loop),
    }


def innermost(sass: str) -> list[str]:
    """Opcodes of the innermost loop with the most matrix instructions, else the most multiply-adds,
    else the longest.

    Where matrix instructions are in no loop, all opcodes.
    """
    labels: dict[str, int] = {}
    ops: list[str] = []
    jumps: list[tuple[int, int]] = []
    for line in sass.splitlines():
        label = re.match(r"(\.L_x_\d+):", line.strip())
        if label:
            labels[label.group(1)] = len(ops)
        op = re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", line)
        if op:
            to = re.search(r"`\((\.L_x_\d+)\)", op.group(2))
            if op.group(1).startswith("BRA") and to and to.group(1) in labels:
                jumps.append((labels[to.group(1)], len(ops)))
            ops.append(op.group(1))
    inner = [
        (a, b)
        for a, b in jumps
        if b - a > 3 and not any(a <= c and d <= b and (c, d) != (a, b) for c, d in jumps)
    ]
    bodies = [ops[a : b + 1] for a, b in inner]

    def weight(body: list[str]) -> tuple[int, int, int]:
        matrix = sum("MMA" in op and not op.startswith("HFMA2") for op in body)
        return matrix, sum(op.startswith("FFMA") for op in body), len(body)

    if weight(ops)[0] and not any(weight(body)[0] for body in bodies):
        return ops
    return max(bodies, key=weight, default=ops)


def occupancy(target: str, registers: int, warps: int, shared: int) -> int:
    """Percent of the warps that a multiprocessor can hold."""
    memory, most = SM[target]
    by_registers = 16384 // (-(-registers * 32 // 256) * 256) * 4 // warps
    by_memory = memory // (-(-(shared + 1024) // 128) * 128)
    return 100 * warps * min(most // warps, by_registers, by_memory, 32) // most


def _amd(compiled) -> dict[str, int | str]:
    text = compiled.asm["amdgcn"]
    found = {k: int(re.search(rf"\.{k}:\s+(\d+)", text).group(1)) for k in _AMD}
    return {
        "registers": found["vgpr_count"],
        "spills": found["vgpr_spill_count"],
        "shared": compiled.metadata.shared,
        "warps": compiled.metadata.num_warps,
        "occupancy": 100 * int(re.search(r"; Occupancy: (\d+)", text).group(1)) // 8,
        "matrix": "MFMA" if "v_mfma" in text else "",
        "loop_loads": len(re.findall(r"(?:global|buffer)_load_", text)),
        "loop_loads_128": len(re.findall(r"(?:global|buffer)_load_dwordx4", text)),
        "loop_instructions": 0,
    }


_AMD = ("vgpr_count", "vgpr_spill_count")


def _any(kind: str, ops: list[str]) -> bool:
    return any(op.startswith(kind) for op in ops)


def _tool(name: str, *args: object) -> str:
    done = subprocess.run(
        [str(TOOLS / name), *map(str, args)], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr
