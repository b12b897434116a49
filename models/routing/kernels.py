"""The Triton kernels of `fused`: what one program does to one tile. `fused` launches them and says which tile is which.

The letters are those of `reference`; C and DB are the couplings ``c`` and the gradients of the logits ``b``, laid out
[iterations, J, I, B] so that a warp writes neighbours. With ``V_t`` the sum of the output capsules of the iterations
before t, ``b_ij = u_i . (V_tj W_ij)``: no prediction vector and no logit is ever stored.

A tile is BB images by BI input capsules. O and D are padded to powers of two, OP and DP, and OP to 16 at least, the
least depth of a product; a tile of u or of a weight has BI * DP columns. A tuple holds one block for each output
capsule. Products take operands rounded to T, the dtype of the inputs, and held in DOT, which is T on a GPU; the
interpreter cannot multiply bfloat16 and takes float32. Offsets of tiles are int64, offsets within a tile int32.
"""
# Triton's language has no (*tuple, element), and mypy does not know it.
# ruff: noqa: RUF005
# mypy: ignore-errors

import triton
import triton.language as tl

INTERPRETED = not isinstance(tl.sum, triton.JITFunction)
"""Whether TRITON_INTERPRET=1 was set when Triton was first imported, so that the kernels run on the CPU."""

NOT_SPECIALIZED = ["B", "I", "N", "blocks", "splits", "kept"]  # else every batch size would compile kernels of its own


@triton.jit
def _columns(D: tl.constexpr, DP: tl.constexpr, BI: tl.constexpr):
    """Where the columns (i, d) of a tile stand: capsule, dimension."""
    column = tl.arange(0, BI * DP)
    return column // DP, column % DP


@triton.jit
def _u(U, b0, i0, B, I, D: tl.constexpr, DP: tl.constexpr, BB: tl.constexpr, BI: tl.constexpr):
    """Input capsules, pointers and mask [BB, BI * DP]."""
    b = tl.arange(0, BB)[:, None]
    i, d = _columns(D, DP, BI)
    mask = (b0 + b < B) & (i0 + i < I)[None, :]
    if D == DP:
        inside = tl.arange(0, BI * DP)  # which Triton sees to be contiguous
    else:
        inside = i * D + d
        mask = mask & (d < D)[None, :]
    return U + tl.cast(b0, tl.int64) * (I * D) + i0 * D + (b * (I * D) + inside[None, :]), mask


@triton.jit
def _w(
    W, i0, I, J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, BI: tl.constexpr
):
    """Transformation matrices to the first output capsule, pointers and mask [OP, BI * DP]; the next is O * D on."""
    o = tl.arange(0, OP)[:, None]
    i, d = _columns(D, DP, BI)
    mask = (i0 + i < I)[None, :]
    if D != DP:
        mask = mask & (d < D)[None, :]
    if O != OP:
        mask = mask & (o < O)
    return W + tl.cast(i0, tl.int64) * (J * O * D) + ((i * (J * O * D) + d)[None, :] + o * D), mask


@triton.jit
def _v(V, b0, B, J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, BB: tl.constexpr):
    """The first output capsules or their like, pointers and mask [BB, OP]; the next are O on."""
    b = tl.arange(0, BB)[:, None]
    o = tl.arange(0, OP)[None, :]
    mask = b0 + b < B
    if O != OP:
        mask = mask & (o < O)
    return V + tl.cast(b0, tl.int64) * (J * O) + (b * (J * O) + o), mask


@triton.jit
def _c(C, b0, i0, B, I, BB: tl.constexpr, BI: tl.constexpr):
    """Couplings to the first output capsule or their like, pointers and mask [BB, BI]; the next are I * B on."""
    b = tl.arange(0, BB)[:, None]
    i = tl.arange(0, BI)[None, :]
    return C + (tl.cast(i0, tl.int64) * B + b0) + (i * B + b), (b0 + b < B) & (i0 + i < I)


@triton.jit
def _load(place, mask, T: tl.constexpr, DOT: tl.constexpr):
    """What stands there as an operand of a product, 0 outside the mask."""
    return tl.load(place, mask=mask, other=0.0).to(T).to(DOT)


@triton.jit
def _sum_d(z, BB: tl.constexpr, BI: tl.constexpr, DP: tl.constexpr):
    """[BB, BI * DP] to [BB, BI]."""
    return tl.sum(tl.reshape(z, (BB, BI, DP)), 2)


@triton.jit
def _times(c, u, BB: tl.constexpr, BI: tl.constexpr, DP: tl.constexpr):
    """[BB, BI] times [BB, BI * DP]: each capsule by its coefficient."""
    return tl.reshape(tl.broadcast_to(c[:, :, None], (BB, BI, DP)), (BB, BI * DP)) * u


@triton.jit
def _softmax(b, J: tl.constexpr):
    """Over a tuple of J logits, to a tuple."""
    peak = b[0]
    for j in tl.static_range(1, J):
        peak = tl.maximum(peak, b[j])
    e = ()
    for j in tl.static_range(J):
        e = e + (tl.exp(b[j] - peak),)
    total = e[0]
    for j in tl.static_range(1, J):
        total = total + e[j]
    scale = 1.0 / total
    c = ()
    for j in tl.static_range(J):
        c = c + (e[j] * scale,)
    return c


@triton.jit
def _zeros(J: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A tuple of J blocks."""
    blocks = ()
    for _ in tl.static_range(J):
        blocks = blocks + (tl.zeros((ROWS, COLUMNS), tl.float32),)
    return blocks


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def gather(
    U, W, V, C, S, B, I, blocks,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, FENCE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    MODE: tl.constexpr,
):  # fmt: skip
    """One split's part of ``s_j = sum_i c_ij W_ij u_i``.

    MODE says where c comes from: "uniform", 1/J; "routed", the softmax of the logits that V [B, J, O] gives; "stored",
    C [J, I, B]. Grid (tiles of images, splits of I); a split is `blocks` tiles of capsules. S [splits, B, J, O].
    """
    T: tl.constexpr = U.dtype.element_ty
    b0 = tl.program_id(0) * BB
    split = tl.program_id(1)
    one = tl.cast(I, tl.int64) * B
    s = _zeros(J, BB, OP)
    v, v_mask = _v(V, b0, B, J, O, OP, BB)
    for n in range(blocks):
        i0 = (split * blocks + n) * BI
        u, u_mask = _u(U, b0, i0, B, I, D, DP, BB, BI)
        x = _load(u, u_mask, T, tl.float32)
        w, w_mask = _w(W, i0, I, J, O, OP, D, DP, BI)
        if MODE == "routed":
            b = ()
            for j in tl.static_range(J):
                z = tl.dot(_load(v + j * O, v_mask, T, DOT), _load(w + j * (O * D), w_mask, T, DOT), None, PRECISION)
                b = b + (_sum_d(z * x, BB, BI, DP),)
                if FENCE:  # else ptxas loads for every j at once, and spills
                    tl.debug_barrier()
            c = _softmax(b, J)
        if MODE == "stored":
            given, c_mask = _c(C, b0, i0, B, I, BB, BI)
        new = ()
        for j in tl.static_range(J):
            if MODE == "uniform":
                share = x
            elif MODE == "routed":
                share = _times(c[j], x, BB, BI, DP)
            else:
                share = _times(tl.load(given + j * one, mask=c_mask, other=0.0), x, BB, BI, DP)
            w_j = _load(w + j * (O * D), w_mask, T, DOT)
            new = new + (tl.dot(share.to(T).to(DOT), tl.trans(w_j), s[j], PRECISION),)
            if FENCE:
                tl.debug_barrier()
        s = new
    place, mask = _v(S + tl.cast(split, tl.int64) * B * (J * O), b0, B, J, O, OP, BB)
    for j in tl.static_range(J):
        tl.store(place + j * O, s[j] * (1.0 / J) if MODE == "uniform" else s[j], mask=mask)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def couple(
    U, W, V, DS, C, DB, B, I, blocks,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """The couplings of one iteration anew, C [J, I, B], for the gradients that need them.

    If EXACT, also the gradients of its logits, DB [J, I, B], made of that of its s, DS [B, J, O]. Grid as `gather`.
    """
    T: tl.constexpr = U.dtype.element_ty
    b0 = tl.program_id(0) * BB
    one = tl.cast(I, tl.int64) * B
    v, v_mask = _v(V, b0, B, J, O, OP, BB)
    ds, v_mask = _v(DS, b0, B, J, O, OP, BB)
    for n in range(blocks):
        i0 = (tl.program_id(1) * blocks + n) * BI
        u, u_mask = _u(U, b0, i0, B, I, D, DP, BB, BI)
        x = _load(u, u_mask, T, tl.float32)
        w, w_mask = _w(W, i0, I, J, O, OP, D, DP, BI)
        b = ()
        dc = ()
        for j in tl.static_range(J):
            w_j = _load(w + j * (O * D), w_mask, T, DOT)
            z = tl.dot(_load(v + j * O, v_mask, T, DOT), w_j, None, PRECISION)
            b = b + (_sum_d(z * x, BB, BI, DP),)
            if EXACT:
                z = tl.dot(_load(ds + j * O, v_mask, T, DOT), w_j, None, PRECISION)
                dc = dc + (_sum_d(z * x, BB, BI, DP),)
        c = _softmax(b, J)
        if EXACT:
            mean = c[0] * dc[0]
            for j in tl.static_range(1, J):
                mean += c[j] * dc[j]
        place, c_mask = _c(C, b0, i0, B, I, BB, BI)
        db, c_mask = _c(DB, b0, i0, B, I, BB, BI)
        for j in tl.static_range(J):
            tl.store(place + j * one, c[j], mask=c_mask)
            if EXACT:
                tl.store(db + j * one, c[j] * (dc[j] - mean), mask=c_mask)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def weight_gradient(
    U, V, DS, DS0, C, DB, DW, B, I, kept,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    UNIFORM: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """``dW_ij = sum over images and kept iterations of ds_j (c_ij u_i)^T``, if EXACT also of ``V_j (db_ij u_i)^T``.

    UNIFORM adds the first iteration, whose couplings are 1/J and whose gradient of s is DS0. V, DS [kept, B, J, O];
    C, DB [kept, J, I, B]. Grid (tiles of input capsules, J).
    """
    T: tl.constexpr = U.dtype.element_ty
    i0 = tl.program_id(0) * BI
    j = tl.program_id(1)
    one = tl.cast(I, tl.int64) * B
    step = tl.cast(B, tl.int64) * (J * O)  # an iteration's output capsules
    dw = tl.zeros((BI * DP, OP), tl.float32)
    for n in range(tl.cdiv(B, BB)):
        b0 = n * BB
        u, u_mask = _u(U, b0, i0, B, I, D, DP, BB, BI)
        x = _load(u, u_mask, T, tl.float32)
        if UNIFORM:
            ds, v_mask = _v(DS0 + j * O, b0, B, J, O, OP, BB)
            even = tl.load(ds, mask=v_mask, other=0.0) * (1.0 / J)
            dw = tl.dot(tl.trans(x.to(DOT)), even.to(T).to(DOT), dw, PRECISION)
        ds, v_mask = _v(DS + j * O, b0, B, J, O, OP, BB)
        v, v_mask = _v(V + j * O, b0, B, J, O, OP, BB)
        c, c_mask = _c(C + j * one, b0, i0, B, I, BB, BI)
        db, c_mask = _c(DB + j * one, b0, i0, B, I, BB, BI)
        for t in range(kept):
            share = _times(tl.load(c + t * J * one, mask=c_mask, other=0.0), x, BB, BI, DP)
            dw = tl.dot(tl.trans(share.to(T).to(DOT)), _load(ds + t * step, v_mask, T, DOT), dw, PRECISION)
            if EXACT:
                share = _times(tl.load(db + t * J * one, mask=c_mask, other=0.0), x, BB, BI, DP)
                dw = tl.dot(tl.trans(share.to(T).to(DOT)), _load(v + t * step, v_mask, T, DOT), dw, PRECISION)
    place, mask = _w(DW + j * (O * D), i0, I, J, O, OP, D, DP, BI)
    tl.store(place, tl.trans(dw).to(DW.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def input_gradient(
    W, V, DS, DS0, C, DB, DU, B, I, kept,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    UNIFORM: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """``du_i = sum over j and kept iterations of c_ij W_ij^T ds_j``, if EXACT also of ``db_ij W_ij^T V_j``.

    The rest as in `weight_gradient`. Grid (tiles of input capsules, tiles of images).
    """
    T: tl.constexpr = W.dtype.element_ty
    i0 = tl.program_id(0) * BI  # the first of a grid's sides alone may pass 65,535
    b0 = tl.program_id(1) * BB
    one = tl.cast(I, tl.int64) * B
    step = tl.cast(B, tl.int64) * (J * O)
    w, w_mask = _w(W, i0, I, J, O, OP, D, DP, BI)
    first, v_mask = _v(DS0, b0, B, J, O, OP, BB)
    ds, v_mask = _v(DS, b0, B, J, O, OP, BB)
    v, v_mask = _v(V, b0, B, J, O, OP, BB)
    c, c_mask = _c(C, b0, i0, B, I, BB, BI)
    db, c_mask = _c(DB, b0, i0, B, I, BB, BI)
    du = tl.zeros((BB, BI * DP), tl.float32)
    for j in range(J):
        w_j = _load(w + j * (O * D), w_mask, T, DOT)
        if UNIFORM:
            du += tl.dot(_load(first + j * O, v_mask, T, DOT), w_j, None, PRECISION) * (1.0 / J)
        for t in range(kept):
            back = tl.dot(_load(ds + (t * step + j * O), v_mask, T, DOT), w_j, None, PRECISION)
            du += _times(tl.load(c + (t * J + j) * one, mask=c_mask, other=0.0), back, BB, BI, DP)
            if EXACT:
                back = tl.dot(_load(v + (t * step + j * O), v_mask, T, DOT), w_j, None, PRECISION)
                du += _times(tl.load(db + (t * J + j) * one, mask=c_mask, other=0.0), back, BB, BI, DP)
    place, mask = _u(DU, b0, i0, B, I, D, DP, BB, BI)
    tl.store(place, du.to(DU.dtype.element_ty), mask=mask)


@triton.jit
def _rows(N, O: tl.constexpr, OP: tl.constexpr, R: tl.constexpr):
    """This program's rows of [N, O], offsets and mask [R, OP]."""
    row = tl.cast(tl.program_id(0), tl.int64) * R + tl.arange(0, R)[:, None]
    o = tl.arange(0, OP)[None, :]
    return row * O + o, (row < N) & (o < O)


@triton.jit
def _total(P, N, splits, O: tl.constexpr, OP: tl.constexpr, R: tl.constexpr, CHUNK: tl.constexpr):
    """The sum of the splits' parts P [splits, N, O], always in the same order."""
    inside, mask = _rows(N, O, OP, R)
    total = tl.zeros((R, OP), tl.float32)
    for first in range(0, splits, CHUNK):  # a chunk's loads are under way together
        split = first + tl.arange(0, CHUNK)[:, None, None]
        place = P + (tl.cast(split, tl.int64) * N * O + inside[None, :, :])
        total += tl.sum(tl.load(place, mask=(split < splits) & mask[None, :, :], other=0.0).to(tl.float32), 0)
    return total


@triton.jit
def _polar(s):
    """As in `capsbench.models.routing.squash`: unit vectors or 0, and sine and cosine of the angle of tangent |s|."""
    peak = tl.max(tl.abs(s), 1)[:, None]
    peak = tl.where(peak > 0, peak, 1.0)
    scaled = tl.div_rn(s, peak)
    norm = tl.sqrt_rn(tl.sum(scaled * scaled, 1))[:, None]
    tangent = peak * norm
    steep = tangent > 1
    ratio = tl.where(steep, tl.div_rn(1.0, tl.where(steep, tangent, 1.0)), tangent)  # at most 1: its square is finite
    hypotenuse = tl.sqrt_rn(1.0 + ratio * ratio)
    sine = tl.div_rn(tl.where(steep, 1.0, ratio), hypotenuse)
    cosine = tl.div_rn(tl.where(steep, ratio, 1.0), hypotenuse)
    return tl.div_rn(scaled, tl.where(norm > 0, norm, 1.0)), sine, cosine


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def squash(
    P, BIAS, V, S, OUT, N, splits,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, R: tl.constexpr, CHUNK: tl.constexpr,
    BIASED: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """S = the sum of P [splits, N, O], and BIAS [J, O] if BIASED; OUT = its squash, if ADD plus V [N, O].

    N = B * J. Grid (tiles of rows,).
    """
    inside, mask = _rows(N, O, OP, R)
    s = _total(P, N, splits, O, OP, R, CHUNK)
    if BIASED:
        s += tl.load(BIAS + inside % (J * O), mask=mask, other=0.0).to(tl.float32)
    tl.store(S + inside, s, mask=mask)
    unit, sine, _ = _polar(s)
    v = unit * (sine * sine)
    if ADD:
        v += tl.load(V + inside, mask=mask, other=0.0)
    tl.store(OUT + inside, v, mask=mask)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def squash_gradient(
    P, SUM, S, DS, N, splits,
    O: tl.constexpr, OP: tl.constexpr, R: tl.constexpr, CHUNK: tl.constexpr,
    ADD: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """DS [N, O] = the derivative of squash at S [N, O] times the sum of P [splits, N, O], if ADD plus SUM [N, O].

    If KEEP, SUM becomes that sum: each iteration's output capsules enter the logits of all later ones.
    """
    inside, mask = _rows(N, O, OP, R)
    dv = _total(P, N, splits, O, OP, R, CHUNK)
    if ADD:
        dv += tl.load(SUM + inside, mask=mask, other=0.0)
    if KEEP:
        tl.store(SUM + inside, dv, mask=mask)
    unit, sine, cosine = _polar(tl.load(S + inside, mask=mask, other=0.0))
    along = tl.sum(unit * dv, 1)[:, None] * unit
    ds = sine * cosine * (dv + (cosine * cosine - sine * sine) * along)
    tl.store(DS + inside, ds, mask=mask)
