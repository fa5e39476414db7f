"""Which nodes of a graph have nothing left in front of them.

A saga walks its graph twice: forward, a step after its predecessors, and back, a step after its successors. Both
walks are this one structure with the arrows turned. Each `resolve` costs what the node touches, so that a saga of a
thousand steps costs per step what a saga of ten costs.

This module must not know what a step is.
"""

from __future__ import annotations

from collections.abc import Sequence


class Frontier:
    """The nodes whose neighbours in front are all resolved.

    `ahead[i]` are the nodes in front of node i, `behind[i]` the nodes that wait for it.
    """

    __slots__ = ("_behind", "_missing", "ready", "unresolved")

    def __init__(self, ahead: Sequence[Sequence[int]], behind: Sequence[Sequence[int]]) -> None:
        self._behind = behind
        self._missing = [len(nodes) for nodes in ahead]
        self.ready = {node for node, missing in enumerate(self._missing) if missing == 0}
        self.unresolved = len(self._missing)

    def resolve(self, node: int) -> list[int]:
        """Take a ready node off; returns the nodes that have become ready by it. KeyError where it was not ready."""
        self.ready.remove(node)
        self.unresolved -= 1
        freed = []
        for other in self._behind[node]:
            self._missing[other] -= 1
            if self._missing[other] == 0:
                freed.append(other)
        self.ready.update(freed)
        return freed
