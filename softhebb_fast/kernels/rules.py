"""What a rule makes of a tile of u: its activity y, and what it sums of it for every neuron."""

from __future__ import annotations

import triton
import triton.language as tl

from softhebb_fast.kernels.tiles import competition


@triton.jit
def rivals(b_u, signals, i_g, o_k, G: tl.constexpr, C: tl.constexpr):
    """What competes of u ``[BM, BN]``: u itself, or what is left of it after handicaps."""
    if signals.distance is not None:
        b_h = tl.load(signals.distance + i_g * G.K + o_k, mask=o_k < G.K, other=0.0)
        b_u = b_u - b_h[None, :]
    if C.ACTIVITY == "competition" and signals.threshold is not None:
        b_t = tl.load(signals.threshold + i_g * G.K + o_k, mask=o_k < G.K, other=0.0)
        b_u = b_u - b_t.to(tl.float32)[None, :]
    return b_u


@triton.jit
def activity_of(
    b_u,
    b_c,
    m_win,
    m_anti,
    b_top,
    b_log,
    signals,
    i_g,
    o_m,
    M,
    o_k,
    scalars,
    G: tl.constexpr,
    C: tl.constexpr,
):
    """y of a tile of u, of which ``b_c`` competes; and what the gain multiplies y by."""
    m = (o_m < M)[:, None] & (o_k < G.K)[None, :]
    b_f = b_u
    if C.ACTIVITY == "linear":
        b_y = b_u
    elif C.ACTIVITY == "threshold":
        b_t = tl.load(signals.threshold + i_g * G.K + o_k, mask=o_k < G.K, other=0.0)
        b_y = b_u * (b_u - b_t.to(tl.float32)[None, :])
    elif C.ACTIVITY == "competition":
        b_y = competition(b_c, m_win, m_anti, b_top, b_log, scalars, C)
    else:
        b_y = load_target(signals.target, i_g, o_m, o_k, m, G, C)
        if C.GAIN == "square":
            b_f = b_y
        if C.ACTIVITY == "error":
            b_y = b_y - competition(b_c, m_win, m_anti, b_top, b_log, scalars, C)
    if signals.modulator is not None:
        b_y = b_y * load_modulator(signals.modulator, o_m, M, G, C)[:, None]
    return b_y, b_f


@triton.jit
def summed(b_y, b_u, b_f, m, m_y, C: tl.constexpr):
    """What is summed for every neuron: its activity, or u^2 for a threshold; and its gain.

    ``m_y`` is where y is not 0 and u is known, inside ``m``.
    """
    b_s = tl.where(m, b_u * b_u if C.ACTIVITY == "threshold" else b_y, 0.0)
    b_g = tl.where(m_y, b_y if C.GAIN == "activity" else b_y * b_f, 0.0)
    return b_s, b_g


@triton.jit
def load_target(target, i_g, o_m, o_k, m, G: tl.constexpr, C: tl.constexpr):
    """The target of positions ``o_m`` and neurons ``o_k``, in float32."""
    o_b, o_v, o_h = places(o_m, G)
    o = o_b * C.TB + o_v * C.TY + o_h * C.TX
    o_n = i_g * G.K + o_k
    if G.WIDE:
        o_n = o_n.to(tl.int64)
    o = o[:, None] + (o_n * C.TK)[None, :]
    return tl.load(target + o, mask=m, other=0.0).to(tl.float32)


@triton.jit
def load_modulator(modulator, o_m, M, G: tl.constexpr, C: tl.constexpr):
    """The third factor of positions ``o_m``, in float32."""
    o_b, o_v, o_h = places(o_m, G)
    o = o_b * C.MB + o_v * C.MY + o_h * C.MX
    return tl.load(modulator + o, mask=o_m < M, other=0.0).to(tl.float32)


@triton.jit
def places(o_m, G: tl.constexpr):
    """Image, row and column of positions ``o_m``."""
    o_b = o_m // (G.OH * G.OW)
    o_i = o_m - o_b * (G.OH * G.OW)
    o_v = o_i // G.OW
    o_h = o_i - o_v * G.OW
    if G.WIDE:
        o_b = o_b.to(tl.int64)
    return o_b, o_v, o_h
