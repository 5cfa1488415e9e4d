"""The arithmetic of each kind of adapter on one weight, rows at a time so that no whole weight stands in float32.

Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rank stabilisation), Liu et al. 2024 (DoRA), Liu et al. 2022
((IA)³), Kopiczko et al. 2023 (VeRA), Zhang et al. 2023 (AdaLoRA), Hyeon-Woo et al. 2021 (LoHa), Edalati et al. 2022
(LoKr), Qiu et al. 2023 (OFT), Meng et al. 2024 (PiSSA), Büyükakyüz 2024 (OLoRA).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Rows are taken together up to so many values: 16 MiB in float32.
CHUNK = 4 * 1024**2


def rows_at_once(weight: Tensor) -> int:
    """How many rows of the first dimension are taken together."""
    return max(1, CHUNK // max(1, weight[0].numel())) if weight.ndim > 1 else max(1, CHUNK)


class Change:
    """What is done to one weight."""

    whole = False
    """Whether `begin` must see the weight before any rows are changed."""

    def begin(self, weight: Tensor) -> None:
        """See the whole weight once, in its own dtype."""

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows.

        Args:
            start: the first of them in the weight.
            values: float32, (rows, …), in the memory of the caller, who gives it away.
        """
        raise NotImplementedError


@dataclass(slots=True)
class LowRank(Change):
    """W + scale · left · right; left (rows, rank), right (rank, columns)."""

    left: Tensor
    right: Tensor
    scale: float

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        return values.addmm_(self.left[start : start + len(values)], self.right, alpha=self.scale)


@dataclass(slots=True)
class Stacked(Change):
    """The same for a stack of matrices; left (count, rows, rank), right (count, rank, columns)."""

    left: Tensor
    right: Tensor
    scale: float

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new matrices."""
        stop = start + len(values)
        return values.baddbmm_(self.left[start:stop], self.right[start:stop], alpha=self.scale)


class Residual(Change):
    """A low-rank change of a base out of which its first low-rank part was taken, and rounded, before training."""

    whole = True

    def __init__(self, change: LowRank, first: str, transposed: bool) -> None:
        self._change, self._first, self._transposed = change, first, transposed
        self._before: LowRank | None = None
        self._dtype = torch.float32

    def begin(self, weight: Tensor) -> None:
        """Take the first part out of the weight again, as it was done before training."""
        self._dtype = weight.dtype
        full = weight.to(self._change.left.device, torch.float32)
        full = full.T if self._transposed and self._first == "pissa" else full
        rank, scale = self._change.right.shape[0], self._change.scale
        if self._first == "pissa":
            left, values, right = torch.linalg.svd(full, full_matrices=False)
            root = torch.sqrt(values[:rank] / scale)
            left, right = left[:, :rank] @ torch.diag(root), torch.diag(root) @ right[:rank]
        else:
            left, right = torch.linalg.qr(full)
            left, right = left[:, :rank].contiguous(), right[:rank].contiguous()
        if self._transposed and self._first == "pissa":
            left, right = right.T, left.T
        self._before = LowRank(left, right, -scale)

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        assert self._before is not None
        rest = self._before.rows(start, values).to(self._dtype).to(torch.float32)
        return self._change.rows(start, rest)


class Decomposed(Change):
    """DoRA: magnitude · (W + Δ) / ‖W + Δ‖, the norm in float32.

    Args:
        change: Δ.
        magnitude: (outputs,).
        transposed: outputs are the columns; their norm then needs the whole weight first.
    """

    def __init__(self, change: LowRank, magnitude: Tensor, transposed: bool) -> None:
        self._change, self._magnitude = change, magnitude.reshape(-1)
        self.whole = transposed
        self._factor: Tensor | None = None

    def begin(self, weight: Tensor) -> None:
        """Add up the squares of each column."""
        if not self.whole:
            return
        device = self._magnitude.device
        squares = torch.zeros(weight.shape[1], dtype=torch.float64, device=device)
        step = rows_at_once(weight)
        for start in range(0, len(weight), step):
            values = weight[start : start + step].to(device, torch.float32, copy=True)
            squares += self._change.rows(start, values).square_().sum(0, dtype=torch.float64)
        self._factor = self._magnitude / squares.sqrt().to(torch.float32)

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        result = self._change.rows(start, values)
        if self._factor is not None:
            return result.mul_(self._factor)
        factor = self._magnitude[start : start + len(result)] / torch.linalg.norm(result, dim=1)
        return result.mul_(factor[:, None])


@dataclass(slots=True)
class Scaled(Change):
    """W · factor; (rows, 1), (1, columns), or (rows,) for a bias."""

    factor: Tensor

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        factor = self.factor if self.factor.shape[0] == 1 else self.factor[start : start + len(values)]
        return values.mul_(factor)


@dataclass(slots=True)
class Added(Change):
    """W + scale · other, of the same shape."""

    other: Tensor
    scale: float

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        return values.add_(self.other[start : start + len(values)], alpha=self.scale)


@dataclass(slots=True)
class Hadamard(Change):
    """LoHa: W + scale · (a₁b₁ ⊙ a₂b₂); a (rows, rank), b (rank, columns)."""

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    scale: float

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        stop = start + len(values)
        (a1, b1), (a2, b2) = self.first, self.second
        return values.add_((a1[start:stop] @ b1).mul_(a2[start:stop] @ b2), alpha=self.scale)


@dataclass(slots=True)
class Kronecker(Change):
    """LoKr: W + scale · left ⊗ right."""

    left: Tensor
    right: Tensor
    scale: float

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows: row i is row i ÷ n of ``left`` times row i mod n of ``right``, n being the latter's rows."""
        at = torch.arange(start, start + len(values), device=values.device)
        height = self.right.shape[0]
        product = self.left[at // height][:, :, None] * self.right[at % height][:, None, :]
        return values.add_(product.reshape(values.shape), alpha=self.scale)


@dataclass(slots=True)
class Rotated(Change):
    """OFT: W · Rᵀ with R block-diagonal; blocks (count, size, size)."""

    blocks: Tensor

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        count, size, _ = self.blocks.shape
        return torch.einsum("onb,ncb->onc", values.reshape(len(values), count, size), self.blocks).reshape(values.shape)


@dataclass(slots=True)
class Rows(Change):
    """Some rows replaced by others; those of ``places`` by ``other`` in order."""

    places: Tensor
    other: Tensor

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        inside = (self.places >= start) & (self.places < start + len(values))
        values[self.places[inside] - start] = self.other[inside]
        return values


class Several(Change):
    """One change after another."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        self._changes = changes
        self.whole = any(change.whole for change in changes)

    def begin(self, weight: Tensor) -> None:
        """Let each see the weight."""
        for change in self._changes:
            change.begin(weight)

    def rows(self, start: int, values: Tensor) -> Tensor:
        """The new rows."""
        for change in self._changes:
            values = change.rows(start, values)
        return values


def cayley(vectors: Tensor, size: int, terms: int | None) -> Tensor:
    """OFT's rotations, (count, size, size), of skew-symmetric matrices Q.

    Args:
        vectors: their upper triangles, (count, size·(size-1)/2).
        terms: of the Neumann series 1 + 2Q + 2Q² + … + Qⁿ that stands for (1 + Q)⁻¹(1 - Q); None: exactly that.
    """
    rows, columns = torch.triu_indices(size, size, 1, device=vectors.device)
    skew = torch.zeros(len(vectors), size, size, device=vectors.device)
    skew[:, rows, columns] = vectors
    skew = skew - skew.transpose(-2, -1)
    identity = torch.eye(size, device=vectors.device).expand_as(skew)
    if terms is None:
        exact: Tensor = torch.linalg.solve(identity + skew, identity - skew, left=False)
        return exact
    result, power = identity.clone(), identity
    last = {1: 0, 2: 1, 3: 3}.get(terms, terms - 1)  # peft makes four terms of three
    for term in range(1, last + 1):
        power = power @ skew
        result += power if term == last and last > 1 else 2 * power
    return result
