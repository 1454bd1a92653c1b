"""The epilogue of a block: activation and pooling, of the tile of u at hand or of u in memory."""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels import launch
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.geometry import Geometry
from softhebb_fast.kernels.pooling import PendingPool
from softhebb_fast.kernels.sync import begin
from softhebb_fast.kernels.tiles import larger, u_offsets


@triton.jit
def activate(b_a, E: tl.constexpr):
    """``relu(a) ** power``."""
    b_a = larger(b_a, 0.0)
    if E.POWER == 0.5:
        b_a = tl.sqrt(b_a)
    elif E.POWER == 2:
        b_a = b_a * b_a
    elif E.POWER != 1:
        b_a = tl.exp2(E.POWER * tl.log2(b_a))
    return b_a


@triton.jit
def block_positions(o, M, G: tl.constexpr, E: tl.constexpr):
    """The position in row ``o`` of a tile whose rows go block by block; M where there is none."""
    o_i = o % (E.SY * E.SX)
    o_n = o // (E.SY * E.SX)
    o_y = (o_n // E.NX) % E.NY * E.SY - E.PAD_Y + o_i // E.SX
    o_x = o_n % E.NX * E.SX - E.PAD_X + o_i % E.SX
    m = (o_y >= 0) & (o_y < G.OH) & (o_x >= 0) & (o_x < G.OW)
    o_m = (o_n // (E.NX * E.NY) * G.OH + o_y) * G.OW + o_x
    return tl.where(m & (o_m < M), o_m, M)


@triton.jit
def store_blocks(
    out, b_u, o, o_m, i_g, o_k, M, G: tl.constexpr, E: tl.constexpr, WHOLE: tl.constexpr
):
    """Pool the blocks in rows ``o`` of u ``[BM, BN]``, at positions ``o_m``.

    All neurons of the group are in the tile. With WHOLE ``out`` is the pooled map in the layout of
    u, else the map of blocks ``[B, NY, NX, GROUPS * K]``.
    """
    S: tl.constexpr = E.SY * E.SX
    N: tl.constexpr = b_u.shape[0] // S
    m_k = o_k < G.K
    b_a = b_u
    if E.CENTRE:
        b_mean = tl.sum(tl.where(m_k[None, :], b_u, 0.0), axis=1) / G.K
        b_a = b_u - b_mean[:, None]
    if not E.MAX:
        b_a = activate(b_a, E)
    if S > 1 or E.PAD_Y + E.PAD_X > 0:
        b_a = tl.where((o_m < M)[:, None], b_a, -float("inf") if E.MAX else 0.0)
    if S > 1:
        b_a = tl.reshape(b_a, (N, S, b_u.shape[1]))
        b_a = tl.reduce(b_a, 1, larger) if E.MAX else tl.sum(b_a, axis=1)
    o_n = o // S if S == 1 else tl.min(tl.reshape(o // S, (N, S)), axis=1)
    o_b = o_n // (E.NY * E.NX)
    o_y = (o_n // E.NX) % E.NY
    o_x = o_n % E.NX
    if G.GROUPS > 1:
        o_k += i_g * G.K
    if WHOLE:
        b_a = activate(b_a, E) if E.MAX else b_a / E.COUNT
        m = (o_b * (G.OH * G.OW) < M) & (o_y < E.OY) & (o_x < E.OX)
        o_p = pooled_offsets(o_b[:, None], o_y[:, None], o_x[:, None], o_k[None, :], G, E)
    else:
        m = o_b * (G.OH * G.OW) < M
        o_n = o_n.to(tl.int64) if G.WIDE else o_n
        o_p = o_n[:, None] * (G.GROUPS * G.K) + o_k[None, :]
    tl.store(out + o_p, b_a.to(out.dtype.element_ty), mask=m[:, None] & m_k[None, :])


@triton.jit
def pooled_offsets(o_b, o_y, o_x, o_n, G: tl.constexpr, E: tl.constexpr):
    """Offsets in the pooled map, in the layout of u; everything broadcasts."""
    N: tl.constexpr = G.GROUPS * G.K
    if G.WIDE:
        o_b = o_b.to(tl.int64)
    if G.U_CHANNELS_LAST:
        o = ((o_b * E.OY + o_y) * E.OX + o_x) * N + o_n
    else:
        o = ((o_b * N + o_n) * E.OY + o_y) * E.OX + o_x
    return o


@triton.jit
def pool_tile(i, pool, M, G: tl.constexpr, E: tl.constexpr, Q: tl.constexpr):
    """Tile ``i`` of the pooled map, ``[BY, BX]`` outputs of BN neurons, in the layout of u.

    ``a`` is u, and ``u_sums [U_SUMS, M]`` make its mean over the neurons. With BLOCKS ``a`` is the
    map of blocks that ``store_blocks`` left. The neurons of a tile have the same mean.
    """
    BY: tl.constexpr = Q.BY
    BX: tl.constexpr = Q.BX
    BN: tl.constexpr = Q.BN
    BLOCKS: tl.constexpr = Q.BLOCKS
    N: tl.constexpr = G.GROUPS * G.K
    H: tl.constexpr = E.NY if BLOCKS else G.OH
    W: tl.constexpr = E.NX if BLOCKS else G.OW
    ROWS: tl.constexpr = (E.OY + BY - 1) // BY
    COLUMNS: tl.constexpr = (E.OX + BX - 1) // BX
    SHARE: tl.constexpr = N // E.MEANS
    PARTS: tl.constexpr = Q.U_SUMS // E.MEANS
    TILES: tl.constexpr = E.MEANS * ((SHARE + BN - 1) // BN)
    i_o = i // TILES
    o = tl.arange(0, BY * BX)
    o_n = i % TILES * BN + tl.arange(0, BN)
    if E.MEANS > 1:
        i_e = i % E.MEANS
        o_n = i % TILES // E.MEANS * BN + tl.arange(0, BN)
    i_b = i_o // (ROWS * COLUMNS)
    o_y = i_o // COLUMNS % ROWS * BY + o // BX
    o_x = i_o % COLUMNS * BX + o % BX
    m_n = o_n < SHARE
    if E.MEANS > 1:
        o_n += i_e * SHARE
    m_o = (o_y < E.OY) & (o_x < E.OX)
    if G.U_CHANNELS_LAST:
        o_n, m_n = o_n[None, :], m_n[None, :]
    else:
        o_n, m_n = o_n[:, None], m_n[:, None]
    b_out = spread(tl.full((BY * BX,), -float("inf") if E.MAX else 0.0, tl.float32), G)
    b_out += tl.zeros(m_n.shape, tl.float32)
    for i_w in range(E.KY * E.KX):
        o_r = o_y * E.SY - E.PAD_Y + i_w // E.KX
        o_c = o_x * E.SX - E.PAD_X + i_w % E.KX
        m_p = m_o & (o_r >= 0) & (o_r < H) & (o_c >= 0) & (o_c < W)
        o_m = (i_b * H + o_r) * W + o_c
        m = spread(m_p, G) & m_n
        if BLOCKS:
            o_a = spread(o_m.to(tl.int64) if G.WIDE else o_m, G) * N + o_n
        else:
            o_a = u_offsets(0, spread(o_m, G), o_n, G)
        b_a = tl.load(pool.a + o_a, mask=m, other=0.0).to(tl.float32)
        if E.CENTRE:
            o_t = tl.arange(0, triton.next_power_of_2(PARTS))[:, None]
            m_t = (o_t < PARTS) & m_p[None, :]
            if E.MEANS > 1:
                o_t += i_e * PARTS
            b_t = tl.load(pool.u_sums + o_t * M + o_m[None, :], mask=m_t, other=0.0)
            b_a -= spread(tl.sum(b_t, axis=0) / SHARE, G)
        if E.MAX:
            b_out = larger(b_out, tl.where(m, b_a, -float("inf")))
        else:
            b_out += tl.where(m, activate(b_a, E) if E.RELU else b_a, 0.0)
    b_out = activate(b_out, E) if E.MAX else b_out / E.COUNT
    o = pooled_offsets(i_b, spread(o_y, G), spread(o_x, G), o_n, G, E)
    tl.store(pool.out + o, b_out.to(pool.out.dtype.element_ty), mask=spread(m_o, G) & m_n)


@triton.jit
def spread(o, G: tl.constexpr):
    """Outputs along the rows of a tile, or along its lanes where those follow the image."""
    return o[:, None] if G.U_CHANNELS_LAST else o[None, :]


@triton.jit
def pool_kernel(
    pool, M, G: tl.constexpr, E: tl.constexpr, Q: tl.constexpr, OVERLAPS: tl.constexpr = False
):
    """``pool_tile`` alone, for a block that does not learn."""
    begin(OVERLAPS)
    pool_tile(tl.program_id(0), pool, M, G, E, Q)


def pool(p: PendingPool, G: Geometry) -> None:
    """Pool what is left to pool: one launch."""
    config, tensors = Config(0, 0, 0, 4, 1), p.tensors
    launch.launch(
        pool_kernel, (p.programs,), config, pool=tensors, M=p.positions, G=G, E=p.E, Q=p.constants
    )
