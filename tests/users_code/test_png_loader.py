"""Users with folders of PNGs: one has a loader of its own, one uses the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from softhebb_fast import SoftHebbConv2d, Triangle
from softhebb_fast.cli import main
from softhebb_fast.training.run_folder import load_run


def write_png(path: Path, label: int, seed: int, bits: int = 8) -> None:
    """Stripes across (label 0) or down (label 1), with noise, 16x16 grey."""
    generator = np.random.default_rng(seed)
    stripes = 128 * ((np.arange(16) + seed) // 2 % 2)[None].repeat(16, 0)
    pixels = (stripes.T if label == 0 else stripes) + generator.integers(0, 100, (16, 16))
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = pixels.astype(np.uint8) if bits == 8 else (pixels * 257).astype(np.uint16)
    Image.fromarray(scaled).save(path)


def write_folder(root: Path, images: int = 24, bits: int = 8) -> Path:
    for label, name in enumerate(("across", "down")):
        for i in range(images):
            part = "train" if i < 2 * images // 3 else "val"
            write_png(root / part / name / f"{i}.png", label, 100 * label + i, bits)
    return root


class Pngs(Dataset):
    def __init__(self, root: Path) -> None:
        self.classes = sorted(p.name for p in root.iterdir())
        self.files = sorted(root.glob("*/*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        path = self.files[i]
        pixels = np.asarray(Image.open(path), np.float32) / 255
        return torch.from_numpy(pixels)[None], self.classes.index(path.parent.name)


def test_layers_learn_from_a_loader_of_pngs(tmp_path):
    write_folder(tmp_path)
    torch.manual_seed(0)
    layer = SoftHebbConv2d(1, 16, 5, padding=2, lr=0.05, t_invert=12.0, update="in_place")
    net = nn.Sequential(layer, Triangle(0.7), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    before = layer.weight.detach().clone()
    loader = DataLoader(Pngs(tmp_path / "train"), batch_size=8, shuffle=True, num_workers=0)
    for _ in range(3):
        for x, _ in loader:
            layer(x)
    assert not torch.equal(before, layer.weight)
    net.eval()
    learned = layer.weight.detach().clone()
    head = nn.Linear(16 * 16, 2)
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(20):
        for x, labels in loader:
            optimizer.zero_grad()
            with torch.no_grad():
                features = net(x)
            F.cross_entropy(head(features), labels).backward()
            optimizer.step()
    assert torch.equal(learned, layer.weight)  # in evaluation mode it does not learn
    x, labels = next(iter(DataLoader(Pngs(tmp_path / "val"), batch_size=100)))
    accuracy = (head(net(x)).argmax(dim=1) == labels).float().mean()
    assert accuracy > 0.9


COMMAND = ["3SoftHebbCnnCIFAR", "--neuron-factor", "0.1", "--probe-epochs", "20", "--quiet"]
COMMAND += ["--unsup-batch", "8", "--probe-batch", "8", "--no-plots"]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_preset_learns_from_a_folder_by_the_command(tmp_path, capsys, bits):
    photos = write_folder(tmp_path / "photos", bits=bits)
    (photos / "train/down/notes.txt").write_text("taken in June")
    run = tmp_path / "run"
    where = ["--dataset", f"imagefolder:{photos}", "--out", str(run)]
    assert main(["train", *COMMAND, *where]) == 0
    told = capsys.readouterr()
    assert "skipped 1: no format that Pillow reads (.txt)" in told.err
    assert ("divided by 65535" in told.err) == (bits == 16)
    saved = load_run(run)
    assert saved.image_shape == (1, 16, 16)
    assert saved.evaluate()[1] > 60
    assert main(["evaluate", str(run)]) == 0


def test_options_of_the_command(tmp_path, capsys):
    flat = tmp_path / "photos"
    for i in range(20):
        write_png(flat / "ab"[i % 2] / f"{i}.png", i % 2, i)
    command = ["train", *COMMAND, "--dataset", str(flat), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "--holdout" in capsys.readouterr().err
    more = ["--holdout", "0.3", "--size", "12", "20", "--channels", "3", "--normalise", "imagenet"]
    assert main([*command, *more]) == 0
    assert load_run(tmp_path / "run").image_shape == (3, 12, 20)
    config = json.loads((tmp_path / "run/config.json").read_text())["run"]
    assert config["reading"]["holdout"] == 0.3
    assert config["dataset"] == f"imagefolder:{flat}"


def test_a_broken_image_of_ones_own(tmp_path, capsys):
    photos = write_folder(tmp_path / "photos")
    path = photos / "train/across/3.png"
    path.write_bytes(path.read_bytes()[:100])
    where = ["--dataset", str(photos), "--out", str(tmp_path / "run")]
    assert main(["train", *COMMAND, *where]) == 2
    told = capsys.readouterr().err
    assert str(path) in told
    assert "download" not in told
    assert main(["train", *COMMAND, *where, "--skip-damaged"]) == 0
    assert "skipped 1: cannot be read as an image" in capsys.readouterr().err


def test_arrays_by_the_command(tmp_path, capsys):
    generator = np.random.default_rng(0)
    path = tmp_path / "mine.npz"
    arrays = {"x_train": generator.random((32, 12, 12, 3)), "y_train": np.arange(32) % 3}
    np.savez(path, **arrays, x_test=generator.random((8, 12, 12, 3)), y_test=np.arange(8) % 3)
    where = ["--dataset", str(path), "--out", str(tmp_path / "run")]
    assert main(["train", *COMMAND, *where]) == 0
    assert "32 images: float64 was kept as float32" in capsys.readouterr().err
    assert load_run(tmp_path / "run").image_shape == (3, 12, 12)
    command = ["backprop", "perceptron", "--option", "hidden=[4]", "--epochs", "1", "--no-plots"]
    assert main([*command, "--quiet", "--dataset", str(path), "--out", str(tmp_path / "b")]) == 0
