from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks.rules import pictures
from benchmarks.rules.patches import FORMS, contrast_normalised, whitened
from softhebb_fast.kinds import RULES

WIDTHS = {"patches": 81, "white": 81, "on_and_off": 162, "images": 3072}


def stub() -> SimpleNamespace:
    """Random rows in the place of patches and images."""

    def form(name: str) -> torch.Tensor:
        return torch.randn(200, WIDTHS[name], generator=torch.Generator().manual_seed(0))

    return SimpleNamespace(form=form, set=SimpleNamespace(labels=torch.arange(200) % 10))


def test_every_rule_has_a_recipe():
    assert list(pictures.RECIPES) == list(RULES)
    assert {recipe.form for recipe in pictures.RECIPES.values()} <= FORMS.keys() == WIDTHS.keys()


@pytest.mark.parametrize("rule", RULES)
def test_filters_are_learned_and_drawn(rule, monkeypatch):
    recipe = pictures.RECIPES[rule]
    monkeypatch.setitem(pictures.RECIPES, rule, replace(recipe, steps=0))
    start = pictures.learned(rule, stub())
    monkeypatch.setitem(pictures.RECIPES, rule, replace(recipe, steps=3))
    filters = pictures.learned(rule, stub())
    assert filters.shape == (recipe.neurons, WIDTHS[recipe.form])
    assert filters.isfinite().all()
    assert not torch.equal(filters, start)
    page = pictures.mosaic(filters, recipe.form)
    assert page.shape[2] == 3
    assert 0 <= page.min() < page.max() <= 1


def test_contrast_and_correlations():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5000, 12, generator=generator) @ torch.randn(12, 12, generator=generator)
    even = contrast_normalised(rows)
    assert even.mean(dim=1).abs().max() < 1e-5
    assert torch.allclose(even.std(dim=1), torch.ones(5000), atol=1e-2)
    rows -= rows.mean(dim=0)
    white = whitened(rows, 0.0)
    assert torch.allclose(white.t() @ white / 5000, torch.eye(12), atol=1e-2)
