"""CUDA graphs of steps: work that is launched, or recorded and replayed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from softhebb_fast.training.stage import Stage

WARM_UP = 3  # steps launched before the capture, in which kernels are compiled and states made


class GraphCapture:
    """Launches work on a stream of its own, or records it there in a CUDA graph."""

    def __init__(self, device: torch.device) -> None:
        self.stream: torch.cuda.Stream = torch.cuda.Stream(device)

    def launch(self, work: Callable[[], None]) -> None:
        """Do ``work``, after all that the current stream was asked for and before what follows."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            work()
        current.wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture ``work`` without doing it; returns what does it. RuntimeError if it cannot be."""
        graph = torch.cuda.CUDAGraph()
        # The outer context restores the current stream, which a capture that fails does not.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self.stream.device)),
            torch.cuda.graph(graph, stream=self.stream),
        ):
            work()
        return graph.replay


def announcement(stage: Stage) -> str:
    return f"the steps of {stage.title} are launched one by one, not replayed from a CUDA graph"
