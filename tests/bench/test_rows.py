from __future__ import annotations

import pytest

from softhebb_fast.bench import rows
from softhebb_fast.bench.table import compare, describe, seconds, table
from tests.bench.tiny import row


def test_rows_survive_the_file(tmp_path):
    path = tmp_path / "results" / "a.csv"
    kept = [row(), row(provider="tuned", bytes=None, median=0.123456)]
    rows.write(path, kept)
    assert rows.read(path) == kept
    assert path.read_text().splitlines()[0] == (
        "case,provider,device,precision,threads,median,q20,q80,samples,calls,bytes,flops,"
        "commit,versions,machine,timestamp"
    )


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("case,provider\n")
    with pytest.raises(ValueError, match=r"a\.csv must have the columns case, provider, device"):
        rows.read(path)


def test_new_rows_replace_old_ones_of_the_same_key():
    old = [row(), row(provider="tuned", median=1.0)]
    new = [row(provider="tuned", median=2.0), row(provider="tuned", threads=1)]
    assert rows.merged(old, new) == [old[0], *new]


def test_the_table_of_a_case():
    text = table(
        [
            row(provider="published", median=0.35, q20=0.3, q80=0.4, bytes=None),
            row(),
            row(provider="cpp-bf16x3", precision="bf16x3", median=0.035),
            row(provider="products", median=0.0595, flops=7_000_000_000),
        ]
    )
    title, head, published, cpp, narrow, products, *_ = text.splitlines()
    assert title == "cifar10/step/b10: cpu, 2 threads, 7 GFLOP a call"
    assert head.split("  ")[0] == "provider"
    assert " ".join(published.split()) == "published 350 ms 300 ms 400 ms 1.00x 20.0 0.17x"
    assert " ".join(cpp.split()) == "cpp 70.0 ms 60.0 ms 80.0 ms 5.00x 100.0 0.85x 200 MiB"
    assert narrow.startswith("cpp-bf16x3")
    assert " 1.00x " in products
    assert len({len(line) for line in (head, cpp, products)}) == 1


def test_extrapolated_rows_say_so():
    text = table([row(calls=5000, median=350.0)])
    assert text.startswith(
        "cifar10/step/b10: cpu, 2 threads, 7 GFLOP a call; extrapolated to 5000 calls\n"
    )
    assert " 100.0 " in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0734, "73.4 ms"),
        (1.5e-6, "1.50 µs"),
        (0.9996, "1.00 s"),
        (350.2, "350 s"),
        (4e3, "4000 s"),
    ],
)
def test_seconds_in_three_digits(value, text):
    assert seconds(value) == text


def test_changes_beyond_noise_are_marked():
    old = [row(), row(provider="tuned"), row(provider="compiled")]
    new = [
        row(median=0.14, q20=0.12, q80=0.16),
        row(provider="tuned", median=0.035, q20=0.03, q80=0.04),
        row(provider="compiled", median=0.077, q20=0.07, q80=0.09),
        row(provider="published"),
    ]
    slower, faster, noise = compare(new, old)
    assert (slower.ratio, slower.worse, slower.better) == (2.0, True, False)
    assert (faster.ratio, faster.worse, faster.better) == (0.5, False, True)
    assert (noise.worse, noise.better) == (False, False)
    text = describe([slower, faster, noise]).splitlines()
    assert [line.split("  ")[-1].strip() for line in text[1:]] == [
        "slower",
        "faster",
        "within noise",
    ]
    assert "2.000" in text[1]
