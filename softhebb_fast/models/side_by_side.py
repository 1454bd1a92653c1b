"""Networks of equal shape that learn in the same steps: seeds, starts or rates of one network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from softhebb_fast.models.softhebb import SoftHebbNet
from softhebb_fast.nn import Block
from softhebb_fast.nn.beside import give_, side_by_side


class SideBySide(nn.Module):
    """Blocks of S networks as one grouped network, which learns for each what it learns alone.

    Input ``[B, S C, H, W]``: S batches ``[B, C, H, W]``, one after the other
    (``torch.cat(batches, dim=1)``). Output ``[B, S K, PH, PW]``; ``chunk(S, dim=1)`` gives each
    network's own. ``nn.side_by_side`` says in what networks may differ, and raises what does not
    fit. Weights and statistics are copies, which ``apart`` gives back.

    Args:
        nets: of one preset, with equal shapes.
        first, last: the blocks to take, counted from 0; all if left out.

    Attributes:
        nets: those it was made of.
        blocks: one joint ``Block`` for each that was taken.

    Raises TypeError for other modules, ValueError for no network, or another number of blocks.
    """

    nets: tuple[SoftHebbNet, ...]
    blocks: nn.ModuleList
    first: int

    def __init__(
        self, nets: Sequence[SoftHebbNet], first: int = 0, last: int | None = None
    ) -> None:
        super().__init__()
        self.nets, self.first = tuple(nets), first
        if not self.nets:
            raise ValueError("nets must hold one at least; got none")
        for net in self.nets:
            if not isinstance(net, SoftHebbNet):
                raise TypeError(f"nets must hold SoftHebbNets; got {type(net).__name__}")
        depths = {len(net.blocks) for net in self.nets}
        if len(depths) > 1:
            raise ValueError(f"nets must have equally many blocks; got {sorted(depths)}")
        depth = depths.pop()
        last = depth - 1 if last is None else last
        if not 0 <= first <= last < depth:
            raise ValueError(
                f"first and last must be blocks of the {depth} there are; got {first=}, {last=}"
            )
        self.blocks = nn.ModuleList(side_by_side(self._blocks(i)) for i in range(first, last + 1))

    def forward(self, x: Tensor) -> Tensor:
        """What the blocks make of ``x``, one after the other."""
        for block in self.blocks:
            x = block(x)
        return x

    def apart(self) -> list[SoftHebbNet]:
        """The networks, with all that was learned together."""
        for index in range(len(self.nets)):
            self.give_(index)
        return list(self.nets)

    def give_(self, index: int) -> None:
        """Copy into the network of that ``index`` what was learned together."""
        for i, joint in enumerate(self.blocks):
            block = self.nets[index].blocks[self.first + i]
            give_(joint, block, index, len(self.nets))

    def _blocks(self, i: int) -> list[Block]:
        return [net.blocks[i] for net in self.nets]
