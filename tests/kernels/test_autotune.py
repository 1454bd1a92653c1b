"""Measured configurations: what is tried, what is kept, and what is believed of a file."""

from __future__ import annotations

import json
import multiprocessing
import warnings
from pathlib import Path

import pytest
import torch

from tests.capture_safety import CUDA, fake_cuda
from tests.kernels.cases import CONV

pytest.importorskip("triton")
from triton.runtime.errors import OutOfResources

from softhebb_fast import sealed
from softhebb_fast.kernels import autotune, configs, launch
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.geometry import conv2d_geometry
from softhebb_fast.kernels.measurements import Measurements
from softhebb_fast.options import Convolution
from tests.by_keyword import kernels

CHOICE = {"forward": Config(64, 128, 32, 4, 3), "one_pass": None}


@pytest.fixture(autouse=True)
def _tf32_on_hopper(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
    monkeypatch.setattr(configs, "architecture", lambda device: 90)
    monkeypatch.setattr(configs, "processors", lambda device: 132)


def layer(neurons: int, channels: int, size: int):
    x, weight = torch.empty(10, channels, size, size), torch.empty(neurons, channels, 3, 3)
    return x, conv2d_geometry(x, weight, Convolution(padding=(1, 1)))


def measured(x, G, times) -> tuple[dict, list[dict]]:
    """The choice where a step takes what ``times`` says of the kernels' configurations."""
    asked = []

    def timer(work):
        work()
        positions = x.shape[0] * G.pixels
        asked.append(
            {
                "forward": configs.forward(G, positions, x.dtype, 90),
                "plasticity": configs.plasticity(G, positions, x.dtype, 90),
                "one_pass": configs.one_pass(G, x.dtype, 90),
            }
        )
        return times(**asked[-1])

    return autotune.measure(lambda: None, x, G, timer), asked


def test_the_fastest_of_each_kernel_is_chosen():
    x, G = layer(384, 96, 16)
    best = {"forward": Config(64, 128, 32, 4, 3), "plasticity": Config(64, 128, 128, 8, 3)}

    def times(forward, plasticity, one_pass):
        return 3 - (forward == best["forward"]) - (plasticity == best["plasticity"])

    choice, asked = measured(x, G, times)
    assert choice == {"one_pass": None, **best}
    assert asked[0]["forward"] == configs.forward(G, 2560, x.dtype, 90)
    asked_again = 2  # what is chosen of forward, with plasticity's, and of both, with activity
    assert len(asked) == len({tuple(found.values()) for found in asked}) + asked_again < 30


@pytest.mark.parametrize("one_pass_takes", [1.0, 4.0])
def test_one_kernel_stands_against_two(one_pass_takes):
    x, G = layer(96, 3, 32)

    def times(forward, plasticity, one_pass):
        return 2.0 if one_pass is None else one_pass_takes * one_pass.warps / 8

    choice, _ = measured(x, G, times)
    default = configs.one_pass(G, x.dtype, 90)
    assert choice["one_pass"] == (default._replace(warps=4) if one_pass_takes == 1 else None)


@pytest.mark.parametrize("alone_takes", [1.0, 3.0])
def test_forward_that_makes_y_stands_against_one_that_does_not(alone_takes):
    x, G = layer(384, 96, 16)

    def timer(work):
        return alone_takes if "activity" in configs._CHOSEN.get() else 2.0

    choice = autotune.measure(lambda: None, x, G, timer)
    assert ("activity" in choice) == (alone_takes == 1)


@pytest.mark.parametrize("whole_takes", [1.0, 3.0])
@pytest.mark.parametrize(("neurons", "shares"), [(1536, True), (96, False)])
def test_tiles_that_are_shared_stand_against_whole_ones(neurons, shares, whole_takes):
    x, G = layer(neurons, 384, 8)
    asked = []

    def timer(work):
        asked.append("last_wave" in configs._CHOSEN.get())
        return whole_takes if asked[-1] else 2.0

    choice = autotune.measure(lambda: None, x, G._replace(CHANNELS_LAST=True), timer)
    assert any(asked) == shares
    assert ("last_wave" in choice) == (shares and whole_takes == 1)


def test_a_configuration_that_does_not_run_is_passed_over():
    x, G = layer(384, 96, 16)
    default = configs.forward(G, 2560, x.dtype, 90)

    def times(forward, plasticity, one_pass):
        if forward == default:
            raise OutOfResources(300_000, 232_448, "shared memory")
        if forward.warps == 4:
            raise RuntimeError("no kernel image")
        return float(forward.stages)

    choice, _ = measured(x, G, times)
    assert choice["forward"] == Config(128, 256, 32, 8, 2)  # next to the largest of the table


def test_a_measurement_holds_for_sizes_of_the_same_power_of_two():
    x, G = layer(384, 96, 16)
    assert autotune.key(x, G, "soft", False) == (
        "float32 tf32 positions=4096 neurons=1x512 patch=1024 contiguous soft"
    )
    assert autotune.key(*layer(300, 90, 16), "soft", False) == autotune.key(x, G, "soft", False)
    others = [
        autotune.key(x.bfloat16(), G, "soft", False),
        autotune.key(x[:4], G, "soft", False),
        autotune.key(x, G, "hard", False),
        autotune.key(x, G, "soft", True),
    ]
    assert len({*others, autotune.key(x, G, "soft", False)}) == 5


@pytest.fixture
def launches(monkeypatch) -> list[tuple[str, Config]]:
    made = []
    monkeypatch.setattr(
        launch, "launch", lambda kernel, grid, config, **_: made.append((kernel.__name__, config))
    )
    return made


def on_fake_gpu() -> None:
    with fake_cuda():
        x, weight = (torch.empty(s, device=CUDA) for s in ((10, 96, 16, 16), (384, 96, 3, 3)))
        kernels.conv2d_step_(x, weight, None, lr=0.1, lr_power=0.5, **CONV)


def test_a_layer_is_measured_once_and_by_later_processes_never(tmp_path, monkeypatch, launches):
    timed, fastest = [], Config(64, 128, 32, 4, 3)

    def timer(work):
        work()
        timed.append([config for name, config in launches if name == "forward_kernel"][-1])
        return float(timed[-1] != fastest)

    opened = []

    def open_cache(device):
        opened.append(Measurements(tmp_path, "NVIDIA H100 80GB HBM3", "3.6.0"))
        return opened[-1]

    monkeypatch.setattr(autotune, "of_device", open_cache)
    monkeypatch.setattr(autotune, "_time", timer)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    on_fake_gpu()
    assert not timed  # not asked for
    assert launches[0][1] != fastest
    monkeypatch.setenv(autotune.VARIABLE, "1")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    on_fake_gpu()
    assert not timed  # a capture cannot be measured in
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    on_fake_gpu()
    assert len(timed) > 10
    assert launches[-3] == ("forward_kernel", fastest)
    timed.clear()
    on_fake_gpu()  # of_device is patched: the file is read anew
    assert not timed
    assert launches[-3] == ("forward_kernel", fastest)
    assert opened[0].path.name == "nvidia-h100-80gb-hbm3-triton-3.6.0.json"


def test_a_value_that_is_neither_0_nor_1_is_refused(monkeypatch):
    monkeypatch.setenv(autotune.VARIABLE, "yes")
    with pytest.raises(ValueError, match="SOFTHEBB_FAST_AUTOTUNE must be 0 or 1; got 'yes'"):
        autotune.enabled()


def test_choices_survive_the_process(tmp_path):
    Measurements(tmp_path, "A100", "3.8.0").put("a layer", CHOICE)
    assert Measurements(tmp_path, "A100", "3.8.0").get("a layer") == CHOICE
    assert Measurements(tmp_path, "A100", "3.9.0").get("a layer") is None
    assert Measurements(tmp_path, "H100", "3.8.0").get("a layer") is None


def spoil(content: dict, **changes) -> str:
    """As a file from before there were digests."""
    kept = {k: v for k, v in content.items() if k not in (sealed.MARK, sealed.DIGEST)}
    return json.dumps(kept | changes)


def test_a_file_from_before_digests_is_believed(tmp_path):
    first = Measurements(tmp_path, "A100", "3.8.0")
    first.put("a layer", CHOICE)
    first.path.write_text(spoil(json.loads(first.path.read_text())))
    assert Measurements(tmp_path, "A100", "3.8.0").get("a layer") == CHOICE


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda content: json.dumps(content)[:40],
        lambda content: "[]",
        lambda content: json.dumps(content).replace("64", "32"),
        lambda content: spoil(content, device="H100"),
        lambda content: spoil(content, format=2),
        lambda content: spoil(content, choices={"a layer": {"forward": [64, 128, 32, 4]}}),
        lambda content: spoil(content, choices={"a layer": {"forward": [64, 100, 32, 4, 3]}}),
        lambda content: spoil(content, choices={"a layer": {"forward": [64, 128, 32, 4, "3"]}}),
        lambda content: spoil(content, choices={"a layer": {"forward": None}}),
        lambda content: spoil(content, choices={"a layer": {"backward": [64, 128, 32, 4, 3]}}),
    ],
)
def test_a_file_that_cannot_be_believed_is_ignored_and_replaced(tmp_path, spoiled):
    first = Measurements(tmp_path, "A100", "3.8.0")
    first.put("a layer", CHOICE)
    first.path.write_text(spoiled(json.loads(first.path.read_text())))
    with pytest.warns(UserWarning, match="is ignored, it holds no launch configurations"):
        again = Measurements(tmp_path, "A100", "3.8.0")
    assert again.get("a layer") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one message is enough
        again.put("another", CHOICE)
        assert Measurements(tmp_path, "A100", "3.8.0").choices == {"another": CHOICE}


@pytest.mark.parametrize("kernel", autotune.KERNELS)
def test_whatever_measuring_chooses_can_be_read(tmp_path, kernel):
    """Of every kernel, and by the next process: else two layers would measure for ever."""
    layers = ((384, 96, 16), (96, 3, 32), (1536, 384, 8))
    for number, (neurons, channels, side) in enumerate(layers):
        x, G = layer(neurons, channels, side)
        G = G._replace(CHANNELS_LAST=number == 2)
        for config in autotune.candidates(kernel, x, G, 90):
            choice = {"one_pass": None, kernel: config}
            Measurements(tmp_path, "A100", "3.8.0").put(f"layer {number}", choice)
            read = Measurements(tmp_path, "A100", "3.8.0")
            assert read.get(f"layer {number}") == choice
    cache = Measurements(tmp_path, "A100", "3.8.0")
    with pytest.raises(ValueError, match="unknown kernels"):
        cache.put("a layer", {"backward": CHOICE["forward"]})
    with pytest.raises(ValueError, match="last_wave has no configuration"):
        cache.put("a layer", {"last_wave": CHOICE["forward"]})
    with pytest.raises(ValueError, match="no configuration of forward"):
        cache.put("a layer", {"forward": CHOICE["forward"]._replace(BP=0)})


def test_what_a_process_measured_it_believes_whatever_becomes_of_the_file(tmp_path):
    cache = Measurements(tmp_path, "A100", "3.8.0")
    cache.put("a layer", CHOICE)
    cache.path.write_text("{")
    with pytest.warns(UserWarning, match="is ignored"):
        cache.put("another", CHOICE)
    assert set(cache.choices) == {"a layer", "another"}
    assert Measurements(tmp_path, "A100", "3.8.0").choices == cache.choices


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Measurements(tmp_path / "file" / "folder", "A100", "3.8.0")
    with pytest.warns(UserWarning, match="cannot be kept in"):
        cache.put("a layer", CHOICE)
    assert cache.get("a layer") == CHOICE


def write_twelve(folder: Path, name: str) -> None:
    cache = Measurements(folder, "A100", "3.8.0")
    for i in range(12):
        cache.put(f"{name} {i}", CHOICE)


def test_two_processes_keep_each_others_choices(tmp_path):
    start = multiprocessing.get_context("fork").Process
    writers = [start(target=write_twelve, args=(tmp_path, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(Measurements(tmp_path, "A100", "3.8.0").choices) == 24
