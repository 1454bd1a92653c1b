"""What the kernels share: where a patch lies, which neurons a tile holds, what won there.

Inside kernels b_ is a tile, o_ an offset, m_ a mask, i_ a program index; capitals are constants.
``G`` is the layer's ``Geometry`` and ``C`` the ``Flags`` of its competition; ``pre``, ``stats``,
``act`` and ``scalars`` are tuples of ``operands``. Exponentials are base 2: ``t_log2e`` is
t log2(e). The largest u is subtracted before t multiplies: of the winner exactly 0 is left.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def larger(a, b):
    """The larger, or NaN where either is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def source(o, N: tl.constexpr, G: tl.constexpr):
    """The coordinate inside an image of size N that coordinate ``o`` shows, and if there is one."""
    m = o == o
    if G.PADDING == "zeros":
        m = (o >= 0) & (o < N)
    elif G.PADDING == "reflect":
        o = tl.maximum(o, -o)
        o = tl.minimum(o, 2 * (N - 1) - o)
    elif G.PADDING == "replicate":
        o = tl.minimum(tl.maximum(o, 0), N - 1)
    elif G.PADDING == "circular":
        o = tl.where(o < 0, o + N, tl.where(o < N, o, o - N))
    return o, m


@triton.jit
def taps(o_p, G: tl.constexpr):
    """Channel, row and column of the patch element ``o_p``."""
    if G.R * G.S == 1:
        o_c, o_r, o_s = o_p, 0, 0
    elif G.CHANNELS_LAST:
        o_t = o_p // G.CHUNK
        o_c = o_p % G.CHUNK
        if G.CHUNK < G.C:
            o_c += o_t // (G.R * G.S) * G.CHUNK
            o_t = o_t % (G.R * G.S)
        o_r = o_t // G.S
        o_s = o_t % G.S
    else:
        o_t = o_p // G.S
        o_s = o_p % G.S
        o_c = o_t // G.R
        o_r = o_t % G.R
    return o_c, o_r, o_s


@triton.jit
def pixels(o_m, o_r, o_s, G: tl.constexpr):
    """Offsets in an image batch of the pixels that taps ``o_r, o_s`` of the patches ``o_m`` show.

    Everything broadcasts; also a mask of the pixels that exist.
    """
    # No remainders: a sum of which the compiler knows that it is small may become one of 16 bits,
    # two to a register, and ptxas 12 and 13 then lose the constant of one of the two.
    o_b = o_m // (G.OH * G.OW)
    o_i = o_m - o_b * (G.OH * G.OW)
    o_v = o_i // G.OW
    o_h = o_i - o_v * G.OW
    if G.WIDE:
        o_b = o_b.to(tl.int64)
    o_y, m_y = source(o_v * G.STRIDE_Y - G.PAD_Y + o_r * G.DILATION_Y, G.H, G)
    o_x, m_x = source(o_h * G.STRIDE_X - G.PAD_X + o_s * G.DILATION_X, G.W, G)
    return o_b * G.XB + o_y * G.XY + o_x * G.XX, m_y & m_x


@triton.jit
def load_patches(
    x,
    i_g,
    o_m,
    M,
    i_p,
    G: tl.constexpr,
    BP: tl.constexpr,
):
    """Patches ``o_m``, elements from ``i_p`` on: ``[BM, BP]``, zero outside.

    Lanes run along the channels where they are contiguous, else along the row of the image. A run
    of channels has one pixel, which is found once for all of them.
    """
    ALIGNED: tl.constexpr = G.ALIGNED
    P: tl.constexpr = G.P
    LINE: tl.constexpr = G.CHUNK if G.R * G.S > 1 else P  # elements of one pixel
    if not G.CHANNELS_LAST:
        o_p = i_p + tl.arange(0, BP)[:, None]
        o_c, o_r, o_s = taps(o_p, G)
        o, m = pixels(o_m[None, :], o_r, o_s, G)
        m &= (o_m < M)[None, :] & (o_p < P)
        o += (o_c + i_g * G.C) * G.XC
        b_x = tl.trans(tl.load(x + o, mask=m, other=0.0, cache_modifier=".ca"))
    elif LINE == P or LINE % BP == 0:
        o_c, o_r, o_s = taps(i_p, G)
        o_p = tl.arange(0, BP)[None, :]
        o, m = pixels(o_m, o_r, o_s, G)
        m = (m & (o_m < M))[:, None]
        if LINE % BP != 0:
            m &= i_p + o_p < P
        o = tl.multiple_of(o + o_c + i_g * G.C, [ALIGNED])[:, None] + o_p
        b_x = tl.load(x + o, mask=m, other=0.0, cache_modifier=".ca")
    elif LINE >= 16 and BP % LINE == 0 and BP > 2 * LINE:
        o_p = i_p + tl.arange(0, BP // LINE)[None, :] * LINE
        o_c, o_r, o_s = taps(o_p, G)
        o, m = pixels(o_m[:, None], o_r, o_s, G)
        m &= (o_m < M)[:, None] & (o_p < P)
        # Reshaped here and not after the load: only a tile of the product's own shape is copied
        # straight to where the product reads it. What a reshape hides of it is said again.
        o = (o + o_c + i_g * G.C)[:, :, None] + tl.arange(0, LINE)[None, None, :]
        m = tl.broadcast_to(m[:, :, None], o.shape)
        o = tl.reshape(o, (o_m.shape[0], BP))
        o = tl.max_contiguous(tl.multiple_of(o, [1, ALIGNED]), [1, LINE])
        m = tl.max_constancy(tl.reshape(m, (o_m.shape[0], BP)), [1, LINE])
        b_x = tl.load(x + o, mask=m, other=0.0, cache_modifier=".ca")
    else:
        o_p = i_p + tl.arange(0, BP)[None, :]
        o_c, o_r, o_s = taps(o_p, G)
        o, m = pixels(o_m[:, None], o_r, o_s, G)
        m &= (o_m < M)[:, None] & (o_p < P)
        b_x = tl.load(x + o + o_c + i_g * G.C, mask=m, other=0.0, cache_modifier=".ca")
    return b_x


@triton.jit
def weight_offsets(i_g, o_k, o_p, G: tl.constexpr):
    """Offsets and mask of the weights of neurons ``o_k``, elements ``o_p``."""
    return filter_elements(i_g, o_k[:, None], o_p[None, :], G)


@triton.jit
def filter_elements(i_g, o_k, o_p, G: tl.constexpr):
    """As ``weight_offsets``; neurons and elements broadcast."""
    m = (o_k < G.K) & (o_p < G.P)
    o_k = i_g * G.K + o_k
    if G.WIDE:
        o_k = o_k.to(tl.int64)
    if G.WEIGHT_LINEAR:
        o = o_k * G.P + o_p
    else:
        o_c, o_r, o_s = taps(o_p, G)
        o = o_k * G.WK + (o_c * G.WC + o_r * G.WR + o_s * G.WS)
    return o, m


@triton.jit
def load_filters(w, i_g, o_k, i_p, G: tl.constexpr, BP: tl.constexpr, TURNED: tl.constexpr):
    """Filters ``o_k``, elements from ``i_p`` on: ``[BN, BP]``.

    TURNED is for a product without matrix units: its lanes read neighbouring neurons out of shared
    memory, where these lie side by side then and meet no bank twice.
    """
    if TURNED:
        o_p = i_p + tl.arange(0, BP // 8)[:, None, None] * 8 + tl.arange(0, 8)[None, :, None]
        o, m = filter_elements(i_g, o_k[None, None, :], o_p, G)
        o = tl.max_contiguous(o, [1, 1, 1])
        b_w = tl.load(w + o, mask=m, other=0.0)  # [BP / 8, 8, BN]
        b_w = tl.trans(tl.reshape(b_w, (BP, o_k.shape[0])))
    else:
        o, m = weight_offsets(i_g, o_k, i_p + tl.arange(0, BP), G)
        b_w = tl.load(w + o, mask=m, other=0.0)
    return b_w


@triton.jit
def contiguous_offsets(i_g, o_k, o_p, G: tl.constexpr):
    """Offsets as ``weight_offsets`` in a contiguous tensor of the weight's shape."""
    o_n = ((i_g * G.K + o_k).to(tl.int64) * G.P)[:, None]
    if G.CHANNELS_LAST:
        o_c, o_r, o_s = taps(o_p, G)
        o = o_n + ((o_c * G.R + o_r) * G.S + o_s)[None, :]
    else:
        o = o_n + o_p[None, :]
    return o


@triton.jit
def lebesgue(b_w, lebesgue_p, C: tl.constexpr):
    """``sign(W) |W|^(p - 1)``, which is W itself for p = 2."""
    if C.LEBESGUE:
        b_w = b_w.to(tl.float32)
        b_a = tl.abs(b_w)
        b_e = tl.exp2((lebesgue_p - 1) * tl.log2(tl.where(b_a > 0, b_a, 1.0)))
        b_w = tl.where(b_a > 0, tl.where(b_w > 0, b_e, -b_e), 0.0)
    return b_w


@triton.jit
def left_over(b, b_high):
    """What rounding ``b`` to ``b_high`` left, in its type; 0 where that is infinite."""
    b_h = b_high.to(tl.float32)
    return tl.where(tl.abs(b_h) == float("inf"), 0.0, b - b_h).to(b_high.dtype)


@triton.jit
def of_rank(b_u, b_win, rank, o_k, G: tl.constexpr):
    """The neuron of rank ``rank`` in each row of u ``[BM, BN]``, whose winner is ``b_win``.

    Equal neurons rank by their index; minus infinity ranks before what is taken or no neuron.
    """
    b_u = tl.where((o_k < G.K)[None, :], larger(b_u, -3.4028234663852886e38), -float("inf"))
    for _ in range(1, rank):
        b_u = tl.where(o_k[None, :] == b_win[:, None], -float("inf"), b_u)
        _, b_win = tl.max(b_u, axis=1, return_indices=True)
    return b_win


@triton.jit
def u_offsets(i_g, o_m, o_k, G: tl.constexpr):
    """Offsets of u at positions ``o_m`` and neurons ``o_k``, which broadcast."""
    if G.WIDE:
        o_m = o_m.to(tl.int64)
    o_k = i_g * G.K + o_k
    if G.U_CHANNELS_LAST:
        o = o_m * (G.GROUPS * G.K) + o_k
    else:
        N: tl.constexpr = G.OH * G.OW
        o = (o_m // N) * (G.GROUPS * G.K * N) + o_m % N + o_k * N
    return o


@triton.jit
def load_u(pre, o, m, other, LAST: tl.constexpr = False):
    """u in float32: the tensor itself, and for 16-bit types what its rounding left over.

    LAST is for who reads it last: the cache may forget it at once.
    """
    POLICY: tl.constexpr = "evict_first" if LAST else ""
    b_u = tl.load(pre.u + o, mask=m, other=other, eviction_policy=POLICY).to(tl.float32)
    if pre.u_low is not None:
        b_u += tl.load(pre.u_low + o, mask=m, other=0.0, eviction_policy=POLICY).to(tl.float32)
    return b_u


@triton.jit
def store_u(pre, o, m, b_u, LAST: tl.constexpr = False):
    """Gives u as ``load_u`` will find it. With LAST that is not soon: the cache may forget it."""
    POLICY: tl.constexpr = "evict_first" if LAST else ""
    b_h = b_u.to(pre.u.dtype.element_ty)
    tl.store(pre.u + o, b_h, mask=m, eviction_policy=POLICY)
    if pre.u_low is not None:
        b_l = left_over(b_u, b_h)
        tl.store(pre.u_low + o, b_l, mask=m)
        b_u = b_h.to(tl.float32) + b_l.to(tl.float32)
    return b_u


@triton.jit
def store_u_sums(pre, b_u, m_k, o, m):
    """The sums of u over the neurons of a tile, if they are asked for."""
    if pre.u_sums is not None:
        tl.store(pre.u_sums + o, tl.sum(tl.where(m_k, b_u, 0.0), axis=1), mask=m)


@triton.jit
def statistics(b_u, t_log2e):
    """Of every row of ``b_u [BM, BN]`` the largest u, its first column, and log2 of the sum of
    exp(t (u - largest u)).

    The sum of a tile in which all u are -inf is 0.
    """
    b_top, b_win = tl.max(b_u, axis=1, return_indices=True)
    b_top = tl.maximum(b_top, -3.4028234663852886e38)
    b_sum = tl.sum(tl.exp2((b_u - b_top[:, None]) * t_log2e), axis=1)
    return b_top, b_win, tl.log2(b_sum)


@triton.jit
def store_statistics(stats, o, m, b_top, b_win, b_log):
    """Those that somebody is to read."""
    tl.store(stats.win + o, b_win, mask=m)
    if stats.top is not None:
        tl.store(stats.top + o, b_top, mask=m)
    if stats.log_sum is not None:
        tl.store(stats.log_sum + o, b_log, mask=m)


@triton.jit
def load_statistics(stats, i_g, o_m, M, t_log2e, TILES: tl.constexpr, C: tl.constexpr):
    """What ``statistics`` found at positions ``o_m``, merged over the TILES of neurons.

    Of positions past the end it says nothing.
    """
    m_m = o_m < M
    o = i_g * TILES * M + o_m
    b_top = tl.zeros(o_m.shape, tl.float32)
    b_log = b_top
    if TILES == 1:
        b_win = tl.load(stats.win + o, mask=m_m, other=-1)
        if C.SOFT:
            b_top = tl.load(stats.top + o, mask=m_m, other=0.0)
            b_log = tl.load(stats.log_sum + o, mask=m_m, other=0.0)
    else:
        o_t = tl.arange(0, triton.next_power_of_2(TILES))[:, None]
        o = o[None, :] + o_t * M
        m = (o_t < TILES) & m_m[None, :]
        b_t = tl.load(stats.top + o, mask=m, other=-float("inf"))
        b_top = tl.max(b_t, axis=0)
        if C.SOFT:
            b_l = tl.load(stats.log_sum + o, mask=m, other=0.0)
            b_log = tl.log2(tl.sum(tl.exp2((b_t - b_top[None, :]) * t_log2e + b_l), axis=0))
        b_w = tl.load(stats.win + o, mask=m, other=2147483647)
        b_win = tl.min(tl.where(b_t == b_top[None, :], b_w, 2147483647), axis=0)
    return b_top, b_win, b_log


@triton.jit
def competition(b_u, m_win, m_anti, b_top, b_log, scalars, C: tl.constexpr):
    """The competition variable y; everything broadcasts. ``b_u`` matters to soft ones only."""
    if C.SOFT:
        b_y = tl.exp2((b_u - b_top) * scalars.t_log2e - b_log)
        if C.ANTI:
            b_y = tl.where(m_win, b_y, -b_y)
    else:
        b_y = tl.where(m_win, 1.0, 0.0)
        if C.ANTI:
            b_y = tl.where(m_anti, -scalars.delta if C.OVERWRITE else b_y - scalars.delta, b_y)
    return b_y
