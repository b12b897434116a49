"""Routing in plain torch that never forms the votes: a fraction of the reference's memory, and several times its speed.

With ``V_t`` the sum of the earlier iterations' ``v``, the logits are ``b_ij = u_hat_ij . V_tj = u_i . (W_ij^T V_tj)``:
they need not be kept, and no votes either. The first iteration, with couplings of 1/J, or of 1/(J + 1) with an orphan
category, is one product of matrices. Each later one goes through blocks of input capsules, with ``Z = W^T V`` of one
block in hand::

    Z = V [J, B, O] x W [J, O, D*n]      b = sum_d Z u      c = softmax_j b      s += (c u) [J, B, D*n] x W^T

The derivative is written out, because autograd would keep every Z; it makes them anew, and keeps c, u and the matrices
alone. In half precision the products of matrices are rounded, and all sums over capsules are of float32. The letters
are those of `capsbench.models.routing.reference`; n is the number of capsules in a block, x and w are u and the
matrices cut into K blocks. In a block the capsules are inner and contiguous, their dimensions outer, so that every
elementwise operation runs along capsules, and both products are of matrices that are large enough to be fast.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from capsbench.models.routing.autograd import HandWritten
from capsbench.models.routing.squash import squash, squash_gradient

CPU_BLOCK = 3 << 19
GPU_BLOCK = 64 << 20
"""Bytes of Z. On a CPU the few tensors of its size stay in the caches: 1.5 MiB was the fastest of 0.35 to 4 on a core
with 1 MiB, and 2 MiB cost the exact gradient a third more. On a GPU a launch has enough to do."""

GPU_DEPTH = 1024
"""Columns of a block at most on a GPU, whose float32 products add their terms one after the other. A first iteration in
one product of depth 9,216 was off by 2.7 times the allowed error on an H200; sums of shorter products are nearer."""

LANES = 16  # a block's capsules are a multiple of it, so that vector instructions have no remainder


def _forward(
    u: Tensor, weight: Tensor, bias: Tensor | None, iterations: int, kept: int, leaky: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    (B, _, _), (_, J, O, _) = u.shape, weight.shape
    n = _block_size(u, J)
    x, w = _cut(u, n), _cut(weight, n).flatten(3)
    dtype = torch.promote_types(u.dtype, torch.float32)
    offset = torch.zeros(J, 1, O, dtype=dtype, device=u.device) if bias is None else bias.to(dtype)[:, None]
    s = torch.zeros(B, J * O, dtype=dtype, device=u.device)
    for k in range(len(x)):
        s += torch.mm(x[k].flatten(1), w[k].flatten(0, 1).t())
    sums = [(s / (J + leaky)).view(B, J, O).transpose(0, 1) + offset]  # s_t [J, B, O] each
    agreed: list[Tensor] = []  # V_t [J, B, O] each
    couplings: list[Tensor] = []  # c_t [K, J, B, n] of each iteration that carries gradient
    for t in range(1, iterations):
        v = squash(sums[-1])
        agreed.append(v if t == 1 else agreed[-1] + v)
        c = v.new_empty(len(x), J, B, n)
        sums.append(_iterate(x, w, agreed[-1], c, leaky) + offset)
        if t >= iterations - kept:
            couplings.append(c)
    return squash(sums[-1]).transpose(0, 1).contiguous(), (x, w, torch.stack(sums), *agreed, *couplings)


def _iterate(x: Tensor, w: Tensor, agreed: Tensor, c: Tensor, leaky: bool) -> Tensor:
    """One iteration after the first: fills in the couplings ``c`` and gives their sums ``[J, B, O]``, without bias."""
    (J, B, O), n = agreed.shape, x.shape[-1]
    agreed = agreed.to(x.dtype)
    z = x.new_empty(J, B, *x.shape[2:])
    flat = z.view(J, B, -1)
    s = c.new_zeros(J, B, O)
    logits = c.new_zeros(J + leaky, B, n)  # that of the orphan category stays 0
    for k in range(len(x)):
        torch.bmm(agreed, w[k], out=flat)
        torch.sum(z.mul_(x[k]), 2, dtype=c.dtype, out=logits[:J])
        if leaky:
            c[k] = torch.softmax(logits, 0)[:J]
        else:
            torch.softmax(logits, 0, out=c[k])
        torch.mul(c[k].to(x.dtype)[:, :, None], x[k], out=z)
        _accumulate(s, flat, w[k].transpose(1, 2))
    return s


def _backward(
    u: Tensor, weight: Tensor, saved: tuple[Tensor, ...], dv: Tensor, iterations: int, kept: int, leaky: bool
) -> tuple[Tensor, Tensor, Tensor]:
    (x, w, sums), rest = saved[:3], list(saved[3:])
    couplings = rest[iterations - 1 :]
    exact = kept == iterations
    du, dweight = sums.new_zeros(u.shape), sums.new_zeros(weight.shape)
    gradients = _Gradients(du, dweight)
    dv = dv.transpose(0, 1).to(sums.dtype)
    dbias = sums.new_zeros(weight.shape[1:3])
    total = torch.zeros_like(sums[0])
    for t in range(iterations - 1, 0, -1):
        ds = squash_gradient(sums[t], dv)
        dbias += ds.sum(1)
        if not exact:
            _through_sums(x, w, couplings.pop(), ds, gradients)
            return du, dweight, dbias
        total += _through_couplings(x, w, couplings.pop(), rest[t - 1], ds, gradients)
        dv = total  # v_t is in the V of every later iteration
    ds = squash_gradient(sums[0], dv)
    dbias += ds.sum(1)
    ds = (ds / (weight.shape[1] + leaky)).transpose(0, 1).flatten(1).to(u.dtype)  # [B, J*O]
    for k in range(len(x)):
        gradients.add(k, torch.mm(ds, w[k].flatten(0, 1)), torch.mm(ds.t(), x[k].flatten(1)))
    return du, dweight, dbias


class _Gradients:
    """Where the gradients of blocks are summed: those of u ``[B, I, D]`` and of the weights ``[I, J, O, D]``."""

    def __init__(self, du: Tensor, dweight: Tensor) -> None:
        self.du = du
        self.dweight = dweight

    def add(self, k: int, du: Tensor, dw: Tensor) -> None:
        """Adds those of block k: ``[B, D, n]`` and ``[J, O, D, n]`` in any grouping of their axes."""
        (B, _, D), (_, J, O, _) = self.du.shape, self.dweight.shape
        n = du.numel() // (B * D)
        into = self.dweight[k * n : (k + 1) * n]  # the last block may be padded
        into += dw.view(J, O, D, n).permute(3, 0, 1, 2)[: len(into)]
        self.du[:, k * n : (k + 1) * n] += du.view(B, D, n).transpose(1, 2)[:, : len(into)]


def _through_sums(x: Tensor, w: Tensor, c: Tensor, ds: Tensor, gradients: _Gradients) -> None:
    """The gradient of ``s = sum_i c_ij W_ij u_i`` with c taken as constants."""
    J, B, _ = ds.shape
    ds = ds.to(x.dtype)
    z = x.new_empty(J, B, *x.shape[2:])
    flat = z.view(J, B, -1)
    du = c.new_empty(x.shape[1:])
    dw = x.new_empty(w.shape[1:])
    for k in range(len(x)):
        shares = c[k].to(x.dtype)[:, :, None]
        torch.bmm(ds, w[k], out=flat)
        torch.sum(z.mul_(shares), 0, dtype=c.dtype, out=du)
        torch.mul(shares, x[k], out=z)
        torch.bmm(ds.transpose(1, 2), flat, out=dw)
        gradients.add(k, du, dw)


def _through_couplings(x: Tensor, w: Tensor, c: Tensor, agreed: Tensor, ds: Tensor, gradients: _Gradients) -> Tensor:
    """The gradient of one iteration through sums and couplings; its part in ``V_t`` ``[J, B, O]`` is what is returned.

    What comes through the couplings and through the sums stands side by side in tensors of two halves, so that each
    product of matrices is one: ``V`` and ``ds``, ``Z`` of either, ``db u`` and ``c u``.
    """
    (J, B, _), n = ds.shape, x.shape[-1]
    both = torch.stack([agreed, ds], 1).to(x.dtype).flatten(1, 2)  # [J, 2B, O]
    z = x.new_empty(J, 2, B, *x.shape[2:])
    y = torch.empty_like(z)
    dagreed = torch.zeros_like(ds)
    dc, db = c.new_empty(J, B, n), c.new_empty(J, B, n)
    du = c.new_empty(x.shape[1:])
    dw = x.new_empty(w.shape[1:])
    for k in range(len(x)):
        torch.bmm(both, w[k], out=z.view(J, 2 * B, -1))
        torch.sum(torch.mul(z[:, 1], x[k], out=y[:, 1]), 2, dtype=c.dtype, out=dc)
        torch.mul(c[k], dc, out=db)
        db.addcmul_(c[k], db.sum(0), value=-1)
        for half, factor in enumerate((db, c[k])):
            factor = factor.to(x.dtype)[:, :, None]
            torch.mul(factor, x[k], out=y[:, half])
            z[:, half].mul_(factor)
        torch.sum(z, (0, 1), dtype=c.dtype, out=du)
        _accumulate(dagreed, y[:, 0].flatten(2), w[k].transpose(1, 2))
        torch.bmm(both.transpose(1, 2), y.view(J, 2 * B, -1), out=dw)
        gradients.add(k, du, dw)
    return dagreed


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds ``left @ right``; in half precision each block's product is rounded, but not their sum."""
    if left.dtype == total.dtype:
        total.baddbmm_(left, right)
    else:
        total += torch.bmm(left, right)


def _block_size(u: Tensor, outputs: int) -> int:
    """How many input capsules a block has: blocks are equal, and Z has about so many bytes."""
    B, I, D = u.shape
    fits = (CPU_BLOCK if u.device.type == "cpu" else GPU_BLOCK) // (u.element_size() * B * outputs * D)
    if u.device.type != "cpu":
        fits = min(fits, GPU_DEPTH // D)
    fits = max(LANES, fits)
    blocks = -(-I // fits)
    return -(-I // (blocks * LANES)) * LANES


def _cut(capsules: Tensor, n: int) -> Tensor:
    """Cuts ``[I, ...]`` or ``[B, I, D]`` into blocks ``[K, ..., n]``; zeros, which add nothing, fill up the last."""
    if capsules.dim() == 3:
        capsules = capsules.transpose(0, 1)
    padding = [0, 0] * (capsules.dim() - 1) + [0, -len(capsules) % n]
    padded = F.pad(capsules, padding)
    return padded.view(-1, n, *padded.shape[1:]).movedim(1, -1).contiguous()


route_blocked = HandWritten("blocked", _forward, _backward)
"""Routes in blocks; any sizes, any device, float32, float64, or half precision with sums of float32."""
