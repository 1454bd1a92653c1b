"""Networks without skips: perceptrons of any depth, and Schicho's two convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from softhebb_fast.models.parts import ACTIVATIONS, choose, dropped, scaled


def perceptron(
    image_shape: tuple[int, int, int],
    classes: int,
    hidden: Sequence[int] = (500,),
    activation: str = "elu",
    bias: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Linear layers on flat pixels; [B, C, H, W] to logits [B, classes].

    (500,) and (512, 256, 128) with ELU are Schicho's on MNIST and CIFAR-10, () his logistic
    regression; (784, n, n) with "relu" and no bias is ZerO's on MNIST. ``dropout`` follows every
    activation.
    """
    kind = choose("activation", ACTIVATIONS, activation)
    channels, height, width = image_shape
    layers, features = [nn.Flatten()], channels * height * width
    for out in hidden:
        layers += [nn.Linear(features, out, bias=bias), kind()]
        layers += dropped(dropout)
        features = out
    return nn.Sequential(*layers, nn.Linear(features, classes, bias=bias))


def mnist_cnn(
    image_shape: tuple[int, int, int], classes: int, width: float = 1.0, dropout: float = 0.0
) -> nn.Sequential:
    """Schicho's network on MNIST: two 5x5 convolutions of 16 and 32 channels, no pooling.

    ``width`` scales the channels.
    """
    channels, height, across = image_shape
    first, second = scaled(16, width), scaled(32, width)
    return nn.Sequential(
        *(nn.Conv2d(channels, first, 5, padding=2), nn.ELU(), *dropped(dropout)),
        *(nn.Conv2d(first, second, 5, padding=2), nn.ELU(), *dropped(dropout)),
        nn.Flatten(),
        nn.Linear(second * height * across, classes),
    )


def cifar_cnn(
    image_shape: tuple[int, int, int], classes: int, width: float = 1.0, dropout: float = 0.0
) -> nn.Sequential:
    """Schicho's network on CIFAR-10: three stages of conv, ELU, conv, ELU, pool, batch norm.

    Convolutions are 3x3 with padding, of 32 and 64, 128 and 128, 256 and 256 channels; linear
    layers of 1024, 512 and ``classes`` follow. ``width`` scales all but the last.

    Raises ValueError for images of less than 8 rows or columns, of which pooling leaves nothing.
    """
    channels, height, across = image_shape
    if min(height, across) < 8:
        raise ValueError(f"image_shape must have 8 rows and columns or more; got {image_shape}")
    layers: list[nn.Module] = []
    for pair in ((32, 64), (128, 128), (256, 256)):
        for out in (scaled(n, width) for n in pair):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ELU(), *dropped(dropout)]
            channels = out
        layers += [nn.MaxPool2d(2), nn.BatchNorm2d(channels)]
    features = channels * (height // 8) * (across // 8)
    layers.append(nn.Flatten())
    for out in (scaled(1024, width), scaled(512, width)):
        layers += [nn.Linear(features, out), nn.ELU(), *dropped(dropout)]
        features = out
    return nn.Sequential(*layers, nn.Linear(features, classes))
