from __future__ import annotations

import pytest

from softhebb_fast.bench import scaling
from softhebb_fast.bench.cases import select
from tests.bench.tiny import row


def rows():
    """cpp is in proportion to the batch, tuned grows as its square root and wins from 4 on."""
    for value in (1, 4, 16):
        yield row(case=f"scaling/batch/{value}", provider="cpp", median=1.0 * value)
        yield row(case=f"scaling/batch/{value}", provider="tuned", median=1.5 * value**0.5)
        yield row(case=f"scaling/batch/{value}", provider="products", median=0.1)
    yield row()


def test_slopes_and_who_is_fastest():
    (by_provider,) = scaling.curves(list(rows())).values()
    assert by_provider["cpp"] == [(1, 1.0), (4, 4.0), (16, 16.0)]
    assert scaling.slope(by_provider["cpp"]) == pytest.approx(1.0)
    assert scaling.slope(by_provider["tuned"]) == pytest.approx(0.5)
    assert scaling.slope(by_provider["products"]) == pytest.approx(0.0)
    assert scaling.fastest(by_provider) == [(1, "cpp"), (4, "tuned")]


def test_the_table():
    assert scaling.table(list(rows())).splitlines() == [
        "| slope in | cpp | tuned | products | fastest |",
        "|---|---|---|---|---|",
        "| batch | 1.00 | 0.50 | 0.00 | `cpp` from 1, `tuned` from 4 |",
    ]


def test_the_picture():
    figure = scaling.plot(list(rows()))
    (axis,) = figure.axes
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["cpp 1.00", "tuned 0.50", "products 0.00"]
    with pytest.raises(ValueError, match="family 'scaling/'"):
        scaling.plot([row()])


def test_the_family_grows_one_quantity_at_a_time():
    base = select(["scaling/batch/10"])[0]
    for name in ("scaling/width/384", "scaling/size/16"):
        (case,) = select([name])
        assert (case.parts, case.batch) == (base.parts, base.batch)
    flops = [case.flops for case in select(["scaling/depth/*"])]
    assert flops == [flops[0] * depth for depth in (1, 2, 4, 8)]
