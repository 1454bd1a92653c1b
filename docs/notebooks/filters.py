# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Filters and receptive fields
#
# The filters of a first layer are pictures of patches. Those of a second layer are weights on the
# maps below, which nobody can read. What a deeper neuron looks for has to be asked another way:
# which image excites it most?

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from softhebb_fast.plots import filter_grid, receptive_field_size, receptive_fields
from softhebb_fast.training import runs
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.run_folder import load_run

network = (
    "softkrotov-c24-k7-p3-t3-lr0.2-lp0.5:triangle_1:max_4_2_1 "
    "softkrotov-c48-k3-p1-t1-lr0.1-lp0.5:triangle_1:avg_2_2_0 "
    "bp:flatten"
)
folder = Path(tempfile.mkdtemp()) / "run"
config = RunConfig(network, "mnist", limit=4000, unsup_batch=10, probe_epochs=1)
summary = runs.begin(config, folder).run()

# %% [markdown]
# ## Norms tell how far a layer is
#
# Filters start with a norm of about 25 and come to 1. The rate of a neuron falls with the distance
# of its norm from 1, so a neuron that has arrived all but stops. No schedule is needed.

# %%
run = load_run(folder)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for layer in (1, 2):
    rows = [row for row in run.rows if row.get("layer") == layer]
    seen = [0, *(row["epoch"] * config.limit for row in rows)]
    norms = [25, *(row["norm_mean"] for row in rows)]
    axis.plot(seen, norms, marker=".", label=f"layer {layer}")
axis.set(xlabel="digits seen", ylabel="mean norm", yscale="log")
_ = axis.legend(frameon=False)

# %% [markdown]
# ## The first layer
#
# Red is positive, blue negative, each filter scaled to its own largest weight. They are strokes at
# an angle, or a corner of the patch where a stroke ends. A blue square looks for empty paper.

# %%
first = run.net.blocks[0].layer.weight.detach()
filter_grid(first, "filters of layer 1")

# %% [markdown]
# ## The second layer
#
# Its neurons see a larger part of the image. Gradient ascent on the image, from nearly black, finds
# what each responds to most (Journé et al. 2023, figure 2).

# %%
size = receptive_field_size(run.net, 1)
print(f"a neuron of layer 2 sees {size} x {size} pixels")
fields = receptive_fields(run.net, 1, list(range(36)), steps=200)
filter_grid(fields, "receptive fields of layer 2")

# %% [markdown]
# Many want a short stroke in one place and nothing beside it. Some want two strokes at a distance,
# or an arc around an empty middle. How different are two neurons? The mean cosine between their
# fields tells: 0 for unrelated ones, 1 for equal ones.

# %%
units = torch.nn.functional.normalize(fields.flatten(1))
cosines = (units @ units.T)[~torch.eye(len(units), dtype=torch.bool)]
print(f"mean |cosine| of two receptive fields: {cosines.abs().mean():.2f}")

# %% [markdown]
# `softhebb-fast train` draws these pictures at the end of each run, and `softhebb-fast plot DIR`
# draws them again.
