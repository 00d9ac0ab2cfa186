"""U-Net++: skip connections filled with nodes, one head for each depth."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from napari_unet.config import NetConfig
from napari_unet.models.unet import Merge, Net, Plan, he_initialise
from napari_unet.run import BadInput


class NestedUNet(Net):
    """U-Net++: in training it returns all heads, the deepest first, otherwise their mean.

    With `head` = 1 .. depth it uses that head alone, and computes no more than it needs.
    """

    dense = True

    def __init__(self, plan: Plan, config: NetConfig) -> None:
        super().__init__(plan, config)
        self._head: int | None = None
        self.down = self.encoder()
        # A node's column is the number of nodes to its left.
        self.nodes = nn.ModuleDict(
            {
                f"{level}-{column}": Merge(plan, level, self.factors[level], skips=column)
                for level, column in self._order(plan.depth)
            }
        )
        self.last = nn.ModuleList(self.output() for _ in range(plan.depth))
        if plan.norm == "none":
            he_initialise(self)

    @property
    def head(self) -> int | None:
        """The head in use; None for all of them."""
        return self._head

    @head.setter
    def head(self, head: int | None) -> None:
        if head is not None and not 1 <= head <= self.plan.depth:
            raise BadInput(f"There is no head {head}; choose 1 to {self.plan.depth}, or none.")
        self._head = head

    @property
    def columns(self) -> int:
        return self._head or self.plan.depth

    def heads(self, x: Tensor) -> list[Tensor]:
        rows = [[features] for features in self.encoded(x, self.down, self.columns)]
        for level, column in self._order(self.columns):
            node = self.nodes[f"{level}-{column}"]
            rows[level].append(node(torch.cat(rows[level], 1), rows[level + 1][column - 1]))
        first = self._head or 1
        return [self.last[j - 1](rows[0][j]) for j in range(self.columns, first - 1, -1)]

    @staticmethod
    def _order(columns: int) -> Iterator[tuple[int, int]]:
        """Yield level and column of each node after those it needs."""
        for column in range(1, columns + 1):
            for level in range(columns + 1 - column):
                yield level, column
