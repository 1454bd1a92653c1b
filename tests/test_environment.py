"""Environment variables: a bad value is named, with what it may be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from softhebb_fast import environment, precision
from softhebb_fast.environment import VARIABLES

CHOICES = {name: row.values for name, row in VARIABLES.items() if row.values}


@pytest.mark.parametrize("name", CHOICES)
def test_a_value_that_will_not_do(name):
    for value in ("foo", "2", "True", "-1", " 1"):
        with pytest.raises(ValueError, match=rf"{name} must be .*; got '{value}'"):
            environment.check({name: value})
    for value in (*CHOICES[name], ""):
        environment.check({name: value})


def test_a_folder_of_data_sets_must_be_there(tmp_path):
    environment.check({"SOFTHEBB_FAST_DATA": str(tmp_path)})
    with pytest.raises(ValueError, match="SOFTHEBB_FAST_DATA must be an existing folder; got"):
        environment.check({"SOFTHEBB_FAST_DATA": str(tmp_path / "nowhere")})


def test_other_variables_are_left_alone():
    environment.check({"SOFTHEBB_FAST_COMMIT": "any", "OMP_NUM_THREADS": "foo"})


def test_precisions_are_those_of_the_kernels():
    assert set(CHOICES[precision.VARIABLE]) == set(precision.PRECISIONS)


def test_every_variable_of_the_code_and_the_readme_is_in_the_table():
    root = Path(__file__).parents[1]
    texts = [p.read_text() for p in (root / "softhebb_fast").rglob("*.py")]
    texts += [p.read_text() for p in (root / "csrc").iterdir()]
    named = set(re.findall(r"SOFTHEBB_FAST_[A-Z]+", "".join(texts)))
    assert named == set(VARIABLES)
    table = re.findall(r"^\| `(SOFTHEBB_FAST_[A-Z]+)` \|", (root / "README.md").read_text(), re.M)
    assert sorted(table) == sorted(VARIABLES)


def test_a_switch_that_is_empty_counts_as_not_set():
    for default in (False, True):
        assert environment.switched_on("A", default, {}) is default
        assert environment.switched_on("A", default, {"A": ""}) is default
        assert environment.switched_on("A", default, {"A": "0"}) is False
        assert environment.switched_on("A", default, {"A": "1"}) is True
    with pytest.raises(ValueError, match="A must be 0 or 1; got 'on'"):
        environment.switched_on("A", True, {"A": "on"})
