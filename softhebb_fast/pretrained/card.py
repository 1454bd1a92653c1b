"""The card of a trained network: what it is, what it reached, and how it was made."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from softhebb_fast.training.metrics import last_figures

TEXT = """---
library_name: softhebb_fast
tags: [image-classification, hebbian-learning]
datasets: [{dataset}]
metrics: [accuracy]
---
# {name}

{what}

| figure | |
|---|---|
{figures}

```python
from softhebb_fast.pretrained import from_pretrained

run = from_pretrained("{name}")
run.net(images)      # logits [B, {classes}] of images float32 [B, {shape}]
run.evaluate()       # loss and accuracy on the test images, which must be here
```

{made_by}

The configuration of the run:

```json
{run}
```
"""
WHAT = {
    "softhebb": "A network whose Hebbian layers learned without labels, and a classifier of what "
    "they give. Trained by softhebb_fast.",
    "backprop": "A network trained by backpropagation, by softhebb_fast.",
}


def card(name: str, about: dict[str, Any], state: dict[str, Tensor]) -> str:
    """The text of the card, in Markdown with the header of the Hugging Face Hub."""
    run, made = about["run"], about["made_by"]
    said = [
        f"{key} {made[key]}" for key in ("version", "commit", "torch", "backend") if key in made
    ]
    return TEXT.format(
        name=name,
        what=WHAT[about["kind"]],
        dataset=run["dataset"],
        figures="\n".join(f"| {name} | {value} |" for name, value in _figures(about, state)),
        classes=about["num_classes"],
        shape=", ".join(map(str, about["image_shape"])),
        made_by=f"Made by softhebb_fast: {', '.join(said)}." if said else "",
        run=json.dumps({k: v for k, v in run.items() if v is not None}, indent=2),
    )


def _figures(about: dict[str, Any], state: dict[str, Tensor]) -> list[tuple[str, str]]:
    last, data = last_figures(about["rows"]), about["data"]
    figures = [("data set", about["run"]["dataset"])]
    figures += [(f"{part} images", f"{found['images']:,}") for part, found in data.items()]
    if last["test_accuracy"] is not None:
        figures.append(("test accuracy", f"{last['test_accuracy']:.2f} %"))
    if last["test_loss"] is not None:
        figures.append(("test loss", f"{last['test_loss']:.4f} nats an image"))
    weights = sum(t.numel() for n, t in state.items() if n.endswith(("weight", "bias")))
    return [*figures, ("parameters", f"{weights:,}"), ("seed", str(about["run"]["seed"]))]
