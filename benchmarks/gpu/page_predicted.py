"""The section of the page about what has not run yet: predicted times beside what is aimed at."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gpu.page_measured import LIBRARY
from benchmarks.gpu.predicted import (
    CLASSIFIER_STEPS,
    HEBBIAN_STEPS,
    NETWORKS,
    PROVIDERS,
    calibration,
    model,
    time_of,
)
from benchmarks.gpu.tables import markdown

AIMS = {  # of the library's time
    ("cifar10/step/b10", "tf32"): 0.8,
    ("cifar10/step/b100", "tf32"): 0.75,
    ("cifar10/step/b10", "bfloat16"): 0.85,
    ("cifar10/step/b100", "bfloat16"): 0.85,
    ("cifar10/step/b10", "bf16x6"): 0.9,
    ("cifar10/step/b100", "bf16x6"): 0.9,
}
RUN_S, TIMES = 5, 3  # s of a run's training, and how much longer 8 at once may take
TEXT = """\
## Predicted

Computed, not measured: what the kernels as they are should take on that card. A step takes {factor}
times the floors of its kernels, {launch} µs a launch and {product} µs more for each that
multiplies. These three numbers are fitted to seven steps that the H100 ran at 6c571be, with the
floors that the kernels had then ([calibration.csv](../benchmarks/gpu/calibration.csv)). They give
those seven back within {least} and +{most} %. Two more that they were not fitted to, in bf16x6,
they put at {others} of what was measured. The library's times are the measured ones.
*Of launches* is what the launches themselves take of a step: what overlaps may hide, and perhaps
something of the tails. Floors know of no multiprocessor that idles. So what shared tiles of
plasticity's last wave cost is in them; what they save is not, see
[tilings.csv](../benchmarks/gpu/tilings.csv)."""
RUN_TEXT = """\
A CIFAR-10 run has {hebbian} steps of its layers and {classifier} of its classifier: {alone:.1f} s,
where at most {run} s are aimed at. Features, tests and captures come on top. {networks} networks at
once should take {ratio:.1f} times as long, {times} are aimed at. HBM limits them: the L2 holds the
weights and changes of one third layer, not of {networks}."""


def section(rows: Sequence[dict[str, str]], steps: Sequence[dict[str, str]]) -> str:
    """Every predicted step, what is aimed at, and what follows for a run."""
    measured = {(r["case"], r["provider"]): 1e6 * float(r["median"]) for r in steps}
    ours = {(r["what"], r["precision"]): float(r["predicted_us"]) for r in rows}
    launches = {(r["what"], r["precision"]): model()[1] * float(r["launches"]) for r in rows}
    cells = []
    for (what, precision), aim in AIMS.items():
        against = measured[what, LIBRARY[PROVIDERS[precision]]]
        predicted = ours[what, precision]
        of_launches = launches[what, precision]
        figures = (f"{us:.0f}" for us in (predicted, of_launches, against))
        cells.append((what, precision, *figures, f"{predicted / against:.2f}", f"{aim:g}"))
    head = ("step", "precision", "predicted µs", "of launches", "library µs", "ratio", "aimed at")
    alone, together = (
        HEBBIAN_STEPS * ours[f"hebbian{which}", "tf32"]
        + CLASSIFIER_STEPS * ours[f"classifier{which}", "float32"]
        for which in ("", f", {NETWORKS} networks")
    )
    run = RUN_TEXT.format(
        hebbian=HEBBIAN_STEPS,
        classifier=CLASSIFIER_STEPS,
        alone=alone / 1e6,
        run=RUN_S,
        networks=NETWORKS,
        ratio=together / alone,
        times=TIMES,
    )
    return "\n\n".join((_text(ours, measured), markdown(head, cells), run)) + "\n"


def _text(ours: dict[tuple[str, str], float], measured: dict[tuple[str, str], float]) -> str:
    found = [100 * (time_of(work) / us - 1) for _, work, us in calibration()]
    cases = ("cifar10/step/b10", "cifar10/step/b100")
    others = [ours[case, "bf16x6"] / measured[case, PROVIDERS["bf16x6"]] for case in cases]
    factor, launch, product = model()
    return TEXT.format(
        factor=factor,
        launch=launch,
        product=product,
        least=f"{min(found):.0f}",
        most=f"{max(found):.0f}",
        others=" and ".join(f"{100 * share:.0f} %" for share in others),
    )
