from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from softhebb_fast.models import Views, build
from tests.tolerances import TOLERANCES, assert_close

NET = "softkrotov-c6-k3-p1-t1:triangle_1:max_2_2_0 soft-c8-k3-p1-t1:triangle_1 bp"
SHAPE = (3, 14, 10)


def images() -> torch.Tensor:
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1))


def nets(views: Views):
    """A network that sees images as ``views``, and the same that sees them as they are."""
    found = []
    for options in ({"views": views}, {}):
        torch.manual_seed(0)
        found.append(build(NET, SHAPE, 4, **options).eval())
    return found


@torch.no_grad()
@pytest.mark.parametrize("shifts", [0, 1, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_views_are_an_image_its_mirror_image_and_both_moved(mirror, shifts):
    x, views = images(), Views(mirror, shifts)
    found = list(views(x))
    assert len(found) == len(views) == (9 if shifts else 1) * (2 if mirror else 1)
    assert found[0] is x
    padded, height, width = F.pad(x, [shifts] * 4, mode="reflect"), *SHAPE[1:]
    moved = {
        (down, right): padded[
            ..., shifts - down : shifts - down + height, shifts - right : shifts - right + width
        ]
        for down in {-shifts, 0, shifts}
        for right in {-shifts, 0, shifts}
    }
    for (down, right), wanted in moved.items():
        rows = slice(max(0, down), height + min(0, down))
        above = slice(max(0, -down), height + min(0, -down))
        columns = slice(max(0, right), width + min(0, right))
        left = slice(max(0, -right), width + min(0, -right))
        assert torch.equal(wanted[..., rows, columns], x[..., above, left])
        assert sum(torch.equal(view, wanted) for view in found) == 1
        if mirror:
            assert sum(torch.equal(view, wanted.flip(-1)) for view in found) == 1


@torch.no_grad()
@pytest.mark.parametrize("views", [Views(mirror=True), Views(shifts=2), Views(True, 1)], ids=str)
def test_logits_are_the_mean_over_the_views_in_evaluation_mode(views):
    model, plain = nets(views)
    wanted = torch.stack([plain(view) for view in views(images())]).mean(0)
    assert_close(model(images()), wanted, TOLERANCES["float32_u"])
    assert not torch.allclose(wanted, plain(images()), atol=1e-3)
    assert_close(model(images()[0]), wanted[0], TOLERANCES["float32_u"])
    model.requires_grad_(False).train()  # so that no layer learns
    plain.requires_grad_(False).train()
    assert torch.equal(model(images()), plain(images()))


@torch.no_grad()
def test_an_image_as_it_is_keeps_its_bits():
    model, plain = nets(Views())
    assert torch.equal(model(images()), plain(images()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mirror": 1}, TypeError, "mirror must be a bool; got 1"),
        ({"shifts": -1}, ValueError, "shifts must be at least 0; got -1"),
        ({"shifts": 1.5}, TypeError, "shifts must be an int; got 1.5"),
    ],
)
def test_other_values_are_named(options, error, message):
    with pytest.raises(error, match=message):
        Views(**options)


def test_images_must_be_larger_than_they_are_moved():
    message = "shifts must be less than the 14x10 pixels of an image; got 10"
    with pytest.raises(ValueError, match=message):
        build(NET, SHAPE, 4, views=Views(shifts=10))
    with pytest.raises(ValueError, match=message):
        next(Views(shifts=10)(images()))
    assert len(list(Views(shifts=9)(images()))) == 9
