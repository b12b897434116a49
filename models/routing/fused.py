"""Routing in Triton for NVIDIA's GPUs, with a derivative written by hand: no prediction vector is ever stored.

Forward, one pass over the weights for each iteration: a program sums the votes of a tile of images over a split of the
input capsules, and `squash` adds up the splits. An iteration that carries gradient also stores its couplings ``c``.
Backward, from the last iteration to the first, the same pass with the gradient of s in place of the output capsules
gives the gradients ``db`` of the logits. With c and db the gradients of u and of the weights couple nothing over J,
and every element of either is written by one program, once. All sums are in float32 and in an order that depends on
the sizes and the GPU alone, so that runs agree bit for bit.

Nothing here waits for the GPU or looks at a value, so that a step can be captured in a CUDA graph. Triton is imported
when something is routed. Under TRITON_INTERPRET=1 the kernels run on the CPU, slowly, for tests.
"""

import os
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from capsbench.models.routing.autograd import HandWritten


@dataclass(frozen=True)
class Tile:
    """What one program works on at a time.

    Attributes:
        images: How many.
        columns: Input capsules times their dimensions, padded to a power of two; a product's depth or width, at least
            16, so that a tile has at least ``columns / dimensions`` capsules and at least one. `kernels.agree` has
            the tile that its layout wants, whatever stands here.
        warps: Of the program, at most 4: in Triton 3.6 to 3.8 more than one group of 4 does not wait for the others'
            products (triton-lang/triton issue #11047).
        programs: How many the splits of the input capsules make for each multiprocessor.
    """

    images: int
    columns: int
    warps: int
    programs: int = 2


TILES: dict[torch.dtype, dict[str, Tile]] = {
    torch.float32: {
        "gather": Tile(64, 32, 4),
        "agree": Tile(16, 16, 1, programs=16),
        "weight_gradient": Tile(32, 64, 4),
        "input_gradient": Tile(64, 32, 4),
    },
    torch.bfloat16: {
        "gather": Tile(64, 64, 4, programs=4),
        "agree": Tile(16, 32, 1, programs=32),
        "weight_gradient": Tile(32, 64, 4),
        "input_gradient": Tile(64, 32, 4),
    },
}
"""For each dtype that can be routed, the tiles of the kernels.

The fastest on an NVIDIA H200 under Triton 3.6, with 1,024 images, 1,152 input capsules of 8 dimensions and 10 output
capsules of 16, of some ten for each kernel, with two exceptions: `gather` in float32, where a tile twice as large saves
at most 5 % of a pass but spills registers, and `input_gradient` in bfloat16, which was not timed and has float32's
tile. What `agree` spills is in tests/models/routing/test_kernels.py; more output capsules spill more.
"""

PRECISION = {torch.float32: "tf32x3", torch.bfloat16: "ieee"}
"""How products are formed, but in `kernels.agree`, which splits float32 itself: of three in tf32, as accurate as one in
float32; a single one is a thousand times off."""

MOST_OUTPUTS, MOST_DIMENSIONS = 16, 32
"""A program holds a block of every output capsule in registers, and spills some with 16 of them."""

ROW = 16
"""Images whose couplings stand together, as in `kernels`."""

ROWS, CHUNK, SQUASH_WARPS = 4, 16, 4
"""Vectors that a program of the squash kernels works on, splits that it loads together, and its warps."""


def refusal(u: Tensor, weight: Tensor) -> str | None:
    """Why `route_fused` cannot route such capsules here, as a clause, or None where it can.

    Args:
        u: ``[B, I, D]``.
        weight: ``[I, J, O, D]`` of u's dtype and device.
    """
    _, J, O, D = weight.shape
    if u.dtype not in TILES:
        return f"{str(u.dtype).removeprefix('torch.')} capsules; it takes float32 and bfloat16"
    if not 1 <= J <= MOST_OUTPUTS:
        return f"{J} output capsules; it takes 1 to {MOST_OUTPUTS}"
    if not (1 <= D <= MOST_DIMENSIONS and 1 <= O <= MOST_DIMENSIONS):
        return f"capsules of {D} and {O} dimensions; it takes 1 to {MOST_DIMENSIONS}"
    return _refusal_of_device(u.device)


def _refusal_of_device(device: torch.device) -> str | None:
    interpreting = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not (device.type == "cpu" and interpreting):
        return "it needs a CUDA device"
    if device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        return "it needs an NVIDIA GPU of compute capability 8.0 or above"
    try:
        kernels = _kernels()
    except ImportError:
        return "Triton is not installed"
    if device.type == "cpu" and not kernels.INTERPRETED:
        return "Triton was imported before TRITON_INTERPRET=1 was set"
    return None


def _kernels() -> ModuleType:
    """Imported late: Triton may be absent, takes time to import, and reads TRITON_INTERPRET while it is imported."""
    from capsbench.models.routing import kernels

    return kernels


@cache
def _multiprocessors(device: torch.device) -> int:
    """Of a GPU; elsewhere as many as an H100 or H200 has."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


class _Call:
    """The sizes of one call, and the kernels on tensors of these sizes, all contiguous.

    Output capsules and their like are ``[B, J, O]``, the parts of a sum ``[splits, B, J, O]``, both float32; couplings
    and their like are ``[B / 16, I, J, 16]`` of u's dtype.
    """

    def __init__(self, u: Tensor, weight: Tensor, leaky: bool, transposed: Tensor | None = None) -> None:
        self.u, self.weight = u.contiguous(), weight.contiguous()
        self.transposed = self.weight.mT.contiguous() if transposed is None else transposed
        (self.B, self.I, self.D), (_, self.J, self.O, _) = u.shape, weight.shape
        self.DP = _power_of_two(self.D)
        self.vectors = {"O": self.O, "OP": max(16, _power_of_two(self.O))}
        self.tiles = TILES[u.dtype]
        self.leaky = leaky

    def empty(self, count: int) -> Tensor:
        """``[count, B, J, O]``."""
        return torch.empty(count, self.B, self.J, self.O, dtype=torch.float32, device=self.u.device)

    def empty_couplings(self, count: int) -> Tensor:
        """``[count, B / 16, I, J, 16]``."""
        shape = count, _ceil(self.B, ROW), self.I, self.J, ROW
        return torch.empty(shape, dtype=self.u.dtype, device=self.u.device)

    def gather(self) -> Tensor:
        """Parts of ``sum_i W_ij u_i / J``, or of that with J + 1 in J's place."""
        tile = self.tiles["gather"]
        blocks, splits = self._split(tile, self._capsules(tile))
        parts = self.empty(splits)
        grid = _ceil(self.B, tile.images), splits
        self._launch("gather", grid, tile, (self.u, self.weight, parts), self.B, self.I, blocks)
        return parts

    def agree(self, given: Tensor, c: Tensor, db: Tensor, back: bool, keep: bool) -> Tensor:
        """Parts of the sums with the couplings that `given` leads to, which keep stores in c.

        With back, `given` is the gradient of s, c is read, db becomes the gradient of the logits, and takes c's place.
        """
        tile = self.tiles["agree"]
        # Dimensions worked on at once: as many as a thread loads; half of many, so that the kernel stays short.
        chunk = min(self.DP, max(16 // self.u.element_size(), self.DP // 2))
        capsules = max(4, 16 // chunk)
        blocks, splits = self._split(tile, capsules)
        parts = self.empty(splits)
        grid = splits, _ceil(self.B, tile.images)
        tensors = self.u, self.weight, self.transposed, given, c, db, parts
        split = self.u.dtype == torch.float32
        constants = {"BB": tile.images, "BI": capsules, "DC": chunk, "SPLIT": split, "BACK": back, "LEAKY": self.leaky}
        arguments = *tensors, self.B, self.I, blocks, int(keep), 1
        _start("agree", grid, tile.warps, arguments, self._sizes() | constants)
        return parts

    def gradients(self, agreed: Tensor, ds: Tensor, c: Tensor, db: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
        """Those of u and weight. With one ds more than c, the first is that of the iteration with equal couplings."""
        kept = len(c)
        flags = {"UNIFORM": len(ds) > kept, "EXACT": exact}
        du, dweight = torch.empty_like(self.u), torch.empty_like(self.weight)
        shared = agreed[len(agreed) - kept :], ds[len(ds) - kept :], ds[0], c, db
        for name, factor, out in (("weight_gradient", self.u, dweight), ("input_gradient", self.weight, du)):
            tile = self.tiles[name]
            blocks = _ceil(self.I, self._capsules(tile))
            grid = (blocks * self.J,) if name == "weight_gradient" else (blocks, _ceil(self.B, tile.images))
            self._launch(name, grid, tile, (factor, *shared, out), self.B, self.I, kept, **flags)
        return du, dweight

    def squash(self, parts: Tensor, bias: Tensor | None, earlier: Tensor | None, s: Tensor, out: Tensor) -> None:
        """Fills s with the sum of parts and bias, and out with its squash, plus `earlier` if given."""
        tensors = parts, s if bias is None else bias, s if earlier is None else earlier, s, out
        self._squash("squash", tensors, J=self.J, BIASED=bias is not None, ADD=earlier is not None)

    def squash_gradient(self, parts: Tensor, running: Tensor, s: Tensor, ds: Tensor, add: bool, keep: bool) -> None:
        """Fills ds with the gradient of s, made of its squash's, the sum of parts; add adds `running`, keep sets it."""
        self._squash("squash_gradient", (parts, running, s, ds), ADD=add, KEEP=keep)

    def _squash(self, name: str, tensors: tuple[Tensor, ...], **flags: int) -> None:
        rows = self.B * self.J
        constants = {**self.vectors, "R": ROWS, "CHUNK": CHUNK, **flags}
        _start(name, (_ceil(rows, ROWS),), SQUASH_WARPS, (*tensors, rows, len(tensors[0])), constants)

    def _launch(
        self, name: str, grid: tuple[int, ...], tile: Tile, tensors: tuple[Tensor, ...], *numbers: int, **flags: Any
    ) -> None:
        block = {
            "BB": tile.images,
            "BI": self._capsules(tile),
            "PRECISION": PRECISION[self.u.dtype],
            "LEAKY": self.leaky,
        }
        _start(name, grid, tile.warps, (*tensors, *numbers), self._sizes() | block | flags)

    def _sizes(self) -> dict[str, Any]:
        import triton.language as tl

        half = self.u.dtype == torch.bfloat16 and not _kernels().INTERPRETED
        product = {"DOT": tl.bfloat16 if half else tl.float32}
        return {"J": self.J, **self.vectors, "D": self.D, "DP": self.DP, **product}

    def _capsules(self, tile: Tile) -> int:
        return max(1, tile.columns // self.DP)

    def _split(self, tile: Tile, capsules: int) -> tuple[int, int]:
        """Tiles of capsules in a split, and splits: the tile's programs for each multiprocessor, or a few less.

        A few more than registers have room for would run after all others, and alone.
        """
        wanted = max(1, tile.programs * _multiprocessors(self.u.device) // max(1, _ceil(self.B, tile.images)))
        tiles = _ceil(self.I, capsules)
        blocks = max(1, _ceil(tiles, wanted))
        return blocks, max(1, _ceil(tiles, blocks))


def _start(
    name: str, grid: tuple[int, ...], warps: int, arguments: tuple[Tensor | int, ...], constants: dict[str, Any]
) -> None:
    # Fusing products into sums is what Triton does, and stated because a coming version will not by default.
    getattr(_kernels(), name)[grid](*arguments, **constants, num_warps=warps, num_stages=1, enable_fp_fusion=True)


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _power_of_two(count: int) -> int:
    """The least that is not below."""
    return 1 << (count - 1).bit_length()


def _forward(
    u: Tensor, weight: Tensor, bias: Tensor | None, iterations: int, kept: int, leaky: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    with torch.cuda.device(u.get_device()):  # Triton launches on the current one
        call = _Call(u, weight, leaky)
        bias = None if bias is None else bias.contiguous()
        s, agreed, v = call.empty(iterations), call.empty(iterations - 1), call.empty(1)[0]
        first = max(1, iterations - kept)  # iteration whose couplings the backward pass wants
        c = call.empty_couplings(min(kept, iterations - 1))
        for t in range(iterations):
            keep = kept > 0 and t >= first
            given = c[t - first] if keep else u
            parts = call.agree(agreed[t - 1], given, given, False, keep) if t else call.gather()
            if t < iterations - 1:
                call.squash(parts, bias, agreed[t - 1] if t else None, s[t], agreed[t])
            else:
                call.squash(parts, bias, None, s[t], v)
        return v, (s, agreed, c, call.transposed)


def _backward(
    u: Tensor, weight: Tensor, saved: tuple[Tensor, ...], dv: Tensor, iterations: int, kept: int, leaky: bool
) -> tuple[Tensor, Tensor, Tensor]:
    s, agreed, c, transposed = saved
    first = iterations - kept  # iteration that carries gradient
    exact = kept == iterations and iterations > 1
    routed = max(first, 1)  # and whose couplings are not all the same
    with torch.cuda.device(u.get_device()):
        call = _Call(u, weight, leaky, transposed)
        ds, running = call.empty(iterations - first), call.empty(1)
        db = torch.empty_like(c) if exact else c
        parts = dv.contiguous()[None]
        for t in reversed(range(first, iterations)):
            later = iterations - 1 - t  # v_t enters the logits of as many
            call.squash_gradient(parts, running, s[t], ds[t - first], add=later > 1, keep=later > 0)
            if t and exact:
                k = t - routed
                parts = call.agree(ds[t - first], c[k], db[k], True, False)
        du, dweight = call.gradients(agreed, ds, c, db, exact)
        return du, dweight, ds.sum(dim=(0, 1))


route_fused = HandWritten("fused", _forward, _backward)
