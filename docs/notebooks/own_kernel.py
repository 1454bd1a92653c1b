# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Writing a kernel against the reference
#
# `softhebb_fast.reference` defines every operation in a few lines of plain PyTorch. A kernel is
# right if it agrees with them. This page writes a small Triton kernel for one part, the competition
# `soft_anti`, and lets the reference find its faults. Triton's interpreter runs it on any CPU.

# %%
import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported; leave it out on a GPU

import torch
import triton
import triton.language as tl

from softhebb_fast.functional import soft_wta

# %% [markdown]
# ## The definition
#
# At every position the neurons share out a softmax, and all but the winner get a minus sign. Of
# equal neurons the first wins.

# %%
u = torch.tensor([[1.0, 3.0, 2.0], [2.0, 2.0, 0.0]])
print(soft_wta(u, t_invert=1.0))

# %% [markdown]
# ## A first kernel
#
# One program takes one position: a row of u. It looks right.

# %%


@triton.jit
def compete(u_ptr, y_ptr, t_invert, K, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    o_k = tl.arange(0, BLOCK)
    b_u = tl.load(u_ptr + row * K + o_k, mask=o_k < K, other=0.0)
    b_e = tl.exp(t_invert * b_u)
    b_p = b_e / tl.sum(b_e)
    b_y = tl.where(b_u == tl.max(b_u), b_p, -b_p)
    tl.store(y_ptr + row * K + o_k, b_y, mask=o_k < K)


def launch(kernel, u, t_invert):
    y = torch.full_like(u, float("nan"))  # what is not written shows
    kernel[(u.shape[0],)](u, y, t_invert, u.shape[1], BLOCK=triton.next_power_of_2(u.shape[1]))
    return y


# %% [markdown]
# ## What to try it on
#
# Ordinary numbers find few faults. These are what kernels get wrong: a width that is no power of
# two, negative rows, exact ties, a temperature at which exp overflows, one neuron alone.

# %%
torch.manual_seed(0)
cases = {
    "ordinary": (torch.randn(5, 8), 1.0),
    "width 7": (torch.randn(5, 7), 1.0),
    "all negative": (torch.randn(5, 7) - 9, 1.0),
    "ties": (torch.randint(0, 2, (5, 8)).float(), 1.0),
    "cold": (torch.randn(5, 8), 500.0),
    "one neuron": (torch.randn(5, 1), 1.0),
}


def verdicts(kernel):
    found = {}
    for name, (u, t_invert) in cases.items():
        expected = soft_wta(u.double(), t_invert).float()
        actual = launch(kernel, u, t_invert)
        found[name] = torch.allclose(actual, expected, rtol=1e-6, atol=1e-7)
        print(f"{name:14} {'right' if found[name] else 'WRONG'}")
    return found


first = verdicts(compete)

# %% [markdown]
# Each wrong case is a fault of its own:
#
# - `other=0.0` lets lanes beyond the last neuron take part in sum and maximum. They need minus
#   infinity.
# - `b_u == max` lets every tied neuron win. The first index has to be found.
# - exp of a large number overflows. The maximum has to be subtracted before the temperature
#   multiplies.

# %%


@triton.jit
def compete_right(u_ptr, y_ptr, t_invert, K, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    o_k = tl.arange(0, BLOCK)
    b_u = tl.load(u_ptr + row * K + o_k, mask=o_k < K, other=-float("inf"))
    largest = tl.max(b_u)
    winner = tl.min(tl.where(b_u == largest, o_k, BLOCK))
    b_e = tl.exp(t_invert * (b_u - largest))
    b_p = b_e / tl.sum(b_e)
    b_y = tl.where(o_k == winner, b_p, -b_p)
    tl.store(y_ptr + row * K + o_k, b_y, mask=o_k < K)


second = verdicts(compete_right)

# %% [markdown]
# The package's own kernels are held to the same: the reference in float64, a second oracle in
# NumPy, odd shapes, ties, numbers that are not finite. Tolerances stand in one table, each with its
# reason. [Contributing](../../CONTRIBUTING.md) names the files of each kind of change.
