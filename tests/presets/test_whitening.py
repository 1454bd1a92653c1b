"""The whitening of a layer in presets and layer strings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softhebb_fast.presets import (
    Layer,
    Whitening,
    format_layer,
    parse_layer,
    parse_network,
    parse_whitening,
)


@pytest.mark.parametrize(
    ("text", "whitening"),
    [
        ("whiten", Whitening("zca", 0.1, None, None, None)),
        ("whiten-e0.01-n1.5e-4", Whitening(epsilon=0.01, contrast=1.5e-4)),
        ("WHITEN_PCA-m50-i10000", Whitening("pca", components=50, images=10000)),
        ("whiten_zca-i5-e2", Whitening(epsilon=2, images=5)),
    ],
)
def test_whitening_as_text(text, whitening):
    assert parse_whitening(text) == whitening
    layer = parse_layer(f"softkrotov-c400-k6-t4:{text}:triangle_1:avg_9_9_0")
    assert (layer.whiten, layer.batch_norm, layer.kernel) == (whitening, False, 6)
    assert layer == replace(
        parse_layer("softkrotov-c400-k6-t4:none:triangle:avg_9_9_0"), whiten=whitening
    )
    assert parse_layer(format_layer(layer)) == layer


def test_it_is_written_and_told():
    layer = Layer("conv", "soft_anti", 400, 6, whiten=Whitening("pca", 0.01, 0.5, 60, 1000))
    assert format_layer(layer) == "softkrotov-c400-k6:whiten_pca-e0.01-n0.5-m60-i1000"
    assert "  pca eps=0.01 contrast=0.5 m=60 of 1000 images" in str(layer)
    assert "zca eps=0.1" in parse_network("soft-c4-k3:whiten bp").describe()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["zca", "pca"]),
    st.floats(1e-12, 1e12),
    st.none() | st.floats(1e-12, 1e12),
    st.none() | st.integers(1, 10**6),
    st.none() | st.integers(1, 10**6),
)
def test_parse_undoes_format(method, epsilon, contrast, components, images):
    components = components if method == "pca" else None
    whitening = Whitening(method, epsilon, contrast, components, images)
    layer = Layer("conv", "hard", 4, 3, whiten=whitening)
    assert parse_layer(format_layer(layer)) == layer


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ("whiten-q3", "unknown key 'q' in 'q3'; known are e, n, m, i"),
        ("whiten-e1-e2", "gives key 'e' a second time"),
        ("whiten-e0", "epsilon must be positive"),
        ("whiten-e.", r"expected a number, got '\.'"),
        ("whiten-m3", "components are for 'pca', got 'zca'"),
        ("whiten-i0", "images must be at least 1"),
        ("whiten_ica", "method must be 'zca' or 'pca', got 'ica'"),
        ("whiten_", "expected whiten, whiten_zca or whiten_pca"),
        ("whiten:whiten", "gives whiten a second time"),
        (
            "whiten:batchnorm2d",
            "batch_norm must be False for a layer of whitened patches, got True",
        ),
    ],
)
def test_what_cannot_be_read(piece, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_layer(f"soft-c4-k3:{piece}")
    assert f"layer 'soft-c4-k3:{piece}'" in str(raised.value)


def test_layers_that_cannot_be_whitened():
    with pytest.raises(ValueError, match="whiten is for conv layers"):
        parse_layer("soft-c4:whiten")
    for key, name in (("g2", "groups"), ("d2", "dilation")):
        with pytest.raises(ValueError, match=f"{name} must be 1 for a layer of whitened patches"):
            parse_layer(f"soft-c4-k3-{key}:whiten")
    with pytest.raises(ValueError, match=r"whiten must be a Whitening or None, got 0\.1"):
        Layer("conv", "soft", 4, 3, whiten=0.1)
    with pytest.raises(ValueError, match=r"images must be an int; got 2\.5"):
        Whitening(images=2.5)
