"""The Triton kernels of `fused`: what one program does to one tile. `fused` launches them and says which tile is which.

The letters are those of `reference`; C and DB are the couplings ``c`` and the gradients of the logits ``b``, laid out
[iterations, B / 16, I, J, 16] so that a warp of `agree`, which has 16 images, writes neighbours. With ``V_t`` the sum
of the output capsules of the iterations before t, ``b_ij = u_i . (V_tj W_ij)``: no prediction vector and no logit is
ever stored.

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

ROW = tl.constexpr(16)
"""Images whose couplings stand together."""

NOT_SPECIALIZED = [
    "B",
    "I",
    "N",
    "blocks",
    "splits",
    "kept",
    "keep",
    "step",
]  # else every batch size would compile kernels of its own


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
def _c(C, b0, i0, B, I, J: tl.constexpr, BB: tl.constexpr, BI: tl.constexpr):
    """Couplings to the first output capsule or their like, pointers and mask [BB, BI]; the next are ROW on."""
    b = tl.arange(0, BB)[:, None]
    i = tl.arange(0, BI)[None, :]
    inside = b // ROW * (I * (J * ROW)) + b % ROW + i * (J * ROW)
    return C + (tl.cast(b0 // ROW, tl.int64) * I + i0) * (J * ROW) + inside, (b0 + b < B) & (i0 + i < I)


@triton.jit
def _size_c(B, I, J: tl.constexpr):
    """How many couplings an iteration has."""
    return tl.cast(tl.cdiv(B, ROW), tl.int64) * I * (J * ROW)


@triton.jit
def _load(place, mask, T: tl.constexpr, DOT: tl.constexpr):
    """What stands there as an operand of a product, 0 outside the mask."""
    return tl.load(place, mask=mask, other=0.0).to(T).to(DOT)


@triton.jit
def _times(c, u, BB: tl.constexpr, BI: tl.constexpr, DP: tl.constexpr):
    """[BB, BI] times [BB, BI * DP]: each capsule by its coefficient."""
    return tl.reshape(tl.broadcast_to(c[:, :, None], (BB, BI, DP)), (BB, BI * DP)) * u


@triton.jit
def _softmax(b, J: tl.constexpr, LEAKY: tl.constexpr):
    """Over a tuple of J logits, to a tuple; if LEAKY with one logit more, which is 0."""
    peak = b[0]
    if LEAKY:
        peak = tl.maximum(peak, 0.0)
    for j in tl.static_range(1, J):
        peak = tl.maximum(peak, b[j])
    e = ()
    for j in tl.static_range(J):
        e = e + (tl.exp(b[j] - peak),)
    total = e[0]
    for j in tl.static_range(1, J):
        total = total + e[j]
    if LEAKY:
        total = total + tl.exp(-peak)
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
    U, W, S, B, I, blocks,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr, LEAKY: tl.constexpr,
):  # fmt: skip
    """One split's part of ``s_j = sum_i W_ij u_i / J``, if LEAKY of ``sum_i W_ij u_i / (J + 1)``.

    Grid (tiles of images, splits of I); a split is `blocks` tiles of capsules. S [splits, B, J, O].
    """
    T: tl.constexpr = U.dtype.element_ty
    b0 = tl.program_id(0) * BB
    split = tl.program_id(1)
    s = _zeros(J, BB, OP)
    for n in range(blocks):
        i0 = (split * blocks + n) * BI
        u, u_mask = _u(U, b0, i0, B, I, D, DP, BB, BI)
        x = _load(u, u_mask, T, DOT)
        w, w_mask = _w(W, i0, I, J, O, OP, D, DP, BI)
        new = ()
        for j in tl.static_range(J):
            new = new + (tl.dot(x, tl.trans(_load(w + j * (O * D), w_mask, T, DOT)), s[j], PRECISION),)
        s = new
    place, mask = _v(S + tl.cast(split, tl.int64) * B * (J * O), b0, B, J, O, OP, BB)
    for j in tl.static_range(J):
        tl.store(place + j * O, s[j] * (1.0 / (J + LEAKY)), mask=mask)


@triton.jit
def _halves(x):
    """float32 as a sum of two that tf32 holds: the nearest, and the rest to 12 bits more."""
    high = ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return high, x - high


@triton.jit
def _product(a, b, SPLIT: tl.constexpr):
    """Of matrices: float32's in three products of tf32, without that of the two rests.

    Emulated, the error of a sum of 16 such products is 0.88 eps, of float32 0.62. What tensor cores cut off their sums
    makes the difference; to round the rests instead of cutting them off makes none.
    """
    if SPLIT:
        a_high, a_low = _halves(a)
        b_high, b_low = _halves(b)
        z = tl.dot(a_low, b_high, None, "tf32")
        z = tl.dot(a_high, b_low, z, "tf32")
        z = tl.dot(a_high, b_high, z, "tf32")
    else:
        z = tl.dot(a, b, None, "ieee")
    return z


@triton.jit
def _deal_o(x, ROWS: tl.constexpr, OP: tl.constexpr, SPLIT: tl.constexpr):
    """[ROWS, OP], of which a thread has loaded four neighbours, in the order in which mma wants a thread's four."""
    if SPLIT:
        dealt = tl.permute(tl.reshape(x, (ROWS, OP // 4, 4)), (0, 2, 1))
    else:
        dealt = tl.permute(tl.reshape(x, (ROWS, OP // 4, 2, 2)), (0, 2, 1, 3))
    return tl.reshape(dealt, (ROWS, OP))


@triton.jit
def _deal_d(x, ROWS: tl.constexpr, BI: tl.constexpr, DC: tl.constexpr):
    """[ROWS, (i, d)] to [ROWS, (d / 2, i, d % 2)]: the threads of a row of mma's sums have a capsule each."""
    PAIR: tl.constexpr = min(DC, 2)
    return tl.reshape(tl.permute(tl.reshape(x, (ROWS, BI, DC // PAIR, PAIR)), (0, 2, 1, 3)), (ROWS, BI * DC))


@triton.jit
def _depth(x, ROWS: tl.constexpr, BI: tl.constexpr, DC: tl.constexpr, SPLIT: tl.constexpr):
    """[ROWS, (d / 2, i, d % 2)] in the order of a product's depth, [ROWS, (d, i)] in tf32."""
    if SPLIT:
        PAIR: tl.constexpr = min(DC, 2)
        x = tl.reshape(tl.permute(tl.reshape(x, (ROWS, DC // PAIR, BI, PAIR)), (0, 1, 3, 2)), (ROWS, BI * DC))
    return x


@triton.jit
def _sum_dims(z, ROWS: tl.constexpr, BI: tl.constexpr, DC: tl.constexpr):
    PAIR: tl.constexpr = min(DC, 2)
    return tl.sum(tl.sum(tl.reshape(z, (ROWS, DC // PAIR, BI, PAIR)), 3), 1)


@triton.jit
def _share(c, x, ROWS: tl.constexpr, BI: tl.constexpr, DC: tl.constexpr):
    PAIR: tl.constexpr = min(DC, 2)
    c = tl.broadcast_to(c[:, None, :, None], (ROWS, DC // PAIR, BI, PAIR))
    return tl.reshape(c, (ROWS, BI * DC)) * x


@triton.jit
def _parts(place, mask, d, STEP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, DC: tl.constexpr):
    """A tuple of what stands there, for each DC dimensions of an input capsule, which are STEP apart."""
    parts = ()
    for part in tl.static_range(DP // DC):
        if D != DP:
            parts = parts + (tl.load(place + part * DC * STEP, mask=mask & (part * DC + d < D), other=0.0),)
        else:
            parts = parts + (tl.load(place + part * DC * STEP, mask=mask, other=0.0),)
    return parts


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def agree(
    U, W, WT, V, C, DB, S, B, I, blocks, keep, step,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, DC: tl.constexpr, DOT: tl.constexpr, SPLIT: tl.constexpr, BACK: tl.constexpr,
    LEAKY: tl.constexpr,
):  # fmt: skip
    """One split's part of ``s_j = sum_i c_ij W_ij u_i`` with c the softmax of the logits that V [B, J, O] gives.

    If LEAKY, there is one more logit, which is 0. If keep, C becomes c. If BACK, V is the gradient of s, C is read, DB
    becomes the gradient of the logits, and S is the sum with DB in c's place: the gradient of the V of the logits. WT
    is W [I, J, D, O]. Grid (splits of I, tiles of images); a split is `blocks` tiles of capsules. S [splits, B, J, O].

    A program is one warp with 16 images, so that it waits for no other. DC dimensions of BI capsules are a product's
    columns, dealt so that a thread of mma's sums has all dimensions of one capsule: sums over them and the softmax need
    no other thread, and operands come from memory as mma wants them, without shared memory. step is 1, but Triton does
    not know it: it would load neighbouring images together, and change the layout.
    """
    T: tl.constexpr = U.dtype.element_ty
    PARTS: tl.constexpr = DP // DC
    PAIR: tl.constexpr = min(DC, 2)
    COLUMNS: tl.constexpr = BI * DC
    split = tl.program_id(0)
    b0 = tl.program_id(1) * BB
    b = tl.arange(0, BB)[:, None]
    o = tl.arange(0, OP)
    four = o // 4 * 4 + o % 4  # neighbours by fours, so that a thread loads four
    v_mask = b0 + b < B
    if O != OP:
        v_mask = v_mask & (o < O)[None, :]
    v = V + tl.cast(b0, tl.int64) * (J * O) + (b * (J * O) + four[None, :])
    column = tl.arange(0, COLUMNS)
    i = column // DC  # of u and W
    d = column % DC
    wide_i = column // PAIR % BI  # of WT, whose columns are dealt
    wide_d = column // (PAIR * BI) * PAIR + column % PAIR
    s = _zeros(J, BB, OP)
    for n in range(blocks):
        i0 = (split * blocks + n) * BI
        x = ()
        for part in tl.static_range(PARTS):
            mask = (b0 + b < B) & (i0 + i < I)[None, :]
            if D != DP:
                mask = mask & (part * DC + d < D)[None, :]
            u = tl.load(
                U + tl.cast(b0, tl.int64) * (I * D) + i0 * D + part * DC + (b * (I * D) + (i * D + d)[None, :]),
                mask=mask,
                other=0.0,
            ).to(tl.float32)
            x = x + (_deal_d(u, BB, BI, DC),)
        row = tl.arange(0, BB)[None, :]
        c_i = tl.arange(0, BI)[:, None]
        c_mask = (b0 + row < B) & (i0 + c_i < I)
        c_place = (tl.cast(b0 // ROW, tl.int64) * I + i0) * (J * ROW) + (
            c_i * (J * ROW) + row // ROW * (I * (J * ROW)) + row % ROW * step
        )
        wt_mask = (i0 + wide_i < I)[:, None]
        w_mask = (i0 + i < I)[None, :]
        if O != OP:
            wt_mask = wt_mask & (o < O)[None, :]
            w_mask = w_mask & (o < O)[:, None]
        w_first = tl.cast(i0, tl.int64) * (J * O * D)
        wt_place = WT + w_first + ((wide_i * (J * O * D) + wide_d * O)[:, None] + four[None, :])
        w_place = W + w_first + ((i * (J * O * D) + d)[None, :] + (o * D)[:, None])
        logits = ()
        mean = tl.zeros((BB, BI), tl.float32)
        v_next = tl.load(v, mask=v_mask, other=0.0)
        wt_next = _parts(wt_place, wt_mask, wide_d[:, None], O, D, DP, DC)
        for j in tl.static_range(J):
            v_j = _deal_o(v_next.to(T).to(DOT), BB, OP, SPLIT)
            wt_j = wt_next
            if j + 1 < J:
                v_next = tl.load(v + (j + 1) * O, mask=v_mask, other=0.0)
                wt_next = _parts(wt_place + (j + 1) * (O * D), wt_mask, wide_d[:, None], O, D, DP, DC)
            for part in tl.static_range(PARTS):
                z = _product(v_j, tl.trans(_deal_o(wt_j[part].to(DOT), COLUMNS, OP, SPLIT)), SPLIT)
                if part == 0:
                    zx = _sum_dims(z * x[0], BB, BI, DC)
                else:
                    zx += _sum_dims(z * x[part], BB, BI, DC)
            logits = logits + (zx,)
            if BACK:
                mean += tl.trans(tl.load(C + c_place + j * ROW, mask=c_mask, other=0.0)).to(tl.float32) * zx
        if not BACK:
            c = _softmax(logits, J, LEAKY)
        new = ()
        w_next = _parts(w_place, w_mask, d[None, :], 1, D, DP, DC)
        for j in tl.static_range(J):
            w_j = w_next
            if j + 1 < J:
                w_next = _parts(w_place + (j + 1) * (O * D), w_mask, d[None, :], 1, D, DP, DC)
            if BACK:
                c_j = tl.trans(tl.load(C + c_place + j * ROW, mask=c_mask, other=0.0)).to(tl.float32)
                factor = c_j * (logits[j] - mean)
                tl.store(DB + c_place + j * ROW, tl.trans(factor.to(DB.dtype.element_ty)), mask=c_mask)
            else:
                factor = c[j]
                # Not `keep > 0`: the interpreter of Triton 3.9 refuses a mask made of one truth value and many.
                kept = c_mask & (i0 + c_i < keep * I)
                tl.store(C + c_place + j * ROW, tl.trans(factor.to(C.dtype.element_ty)), mask=kept)
            s_j = s[j]
            for part in tl.static_range(PARTS):
                w = w_j[part].to(DOT)
                share = _depth(_share(factor, x[part], BB, BI, DC).to(T).to(DOT), BB, BI, DC, SPLIT)
                s_j += _product(share, tl.trans(_depth(_deal_d(w, OP, BI, DC), OP, BI, DC, SPLIT)), SPLIT)
            new = new + (s_j,)
        s = new
    place, mask = _v(S + tl.cast(split, tl.int64) * B * (J * O), b0, B, J, O, OP, BB)
    for j in tl.static_range(J):
        tl.store(place + j * O, s[j], mask=mask)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def weight_gradient(
    U, V, DS, DS0, C, DB, DW, B, I, kept,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    UNIFORM: tl.constexpr, EXACT: tl.constexpr, LEAKY: tl.constexpr,
):  # fmt: skip
    """``dW_ij = sum over images and kept iterations of ds_j (c_ij u_i)^T``, if EXACT also of ``V_j (db_ij u_i)^T``.

    UNIFORM adds the first iteration, whose couplings are 1/J (if LEAKY 1/(J + 1)) and whose gradient of s is DS0.
    V, DS [kept, B, J, O]; C, DB [kept, B / 16, I, J, 16]. Grid (tiles of input capsules * J,), j fastest, so that u
    is read from memory once.
    """
    T: tl.constexpr = U.dtype.element_ty
    i0 = tl.program_id(0) // J * BI  # j is innermost: programs that read the same u run together
    j = tl.program_id(0) % J
    one = _size_c(B, I, J)
    step = tl.cast(B, tl.int64) * (J * O)  # an iteration's output capsules
    dw = tl.zeros((BI * DP, OP), tl.float32)
    for n in range(tl.cdiv(B, BB)):
        b0 = n * BB
        u, u_mask = _u(U, b0, i0, B, I, D, DP, BB, BI)
        x = _load(u, u_mask, T, tl.float32)
        if UNIFORM:
            ds, v_mask = _v(DS0 + j * O, b0, B, J, O, OP, BB)
            even = tl.load(ds, mask=v_mask, other=0.0) * (1.0 / (J + LEAKY))
            dw = tl.dot(tl.trans(x.to(DOT)), even.to(T).to(DOT), dw, PRECISION)
        ds, v_mask = _v(DS + j * O, b0, B, J, O, OP, BB)
        v, v_mask = _v(V + j * O, b0, B, J, O, OP, BB)
        c, c_mask = _c(C + j * ROW, b0, i0, B, I, J, BB, BI)
        db, c_mask = _c(DB + j * ROW, b0, i0, B, I, J, BB, BI)
        for t in range(kept):
            share = _times(tl.load(c + t * one, mask=c_mask, other=0.0).to(tl.float32), x, BB, BI, DP)
            dw = tl.dot(tl.trans(share.to(T).to(DOT)), _load(ds + t * step, v_mask, T, DOT), dw, PRECISION)
            if EXACT:
                share = _times(tl.load(db + t * one, mask=c_mask, other=0.0).to(tl.float32), x, BB, BI, DP)
                dw = tl.dot(tl.trans(share.to(T).to(DOT)), _load(v + t * step, v_mask, T, DOT), dw, PRECISION)
    place, mask = _w(DW + j * (O * D), i0, I, J, O, OP, D, DP, BI)
    tl.store(place, tl.trans(dw).to(DW.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=NOT_SPECIALIZED)
def input_gradient(
    W, V, DS, DS0, C, DB, DU, B, I, kept,
    J: tl.constexpr, O: tl.constexpr, OP: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
    BB: tl.constexpr, BI: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
    UNIFORM: tl.constexpr, EXACT: tl.constexpr, LEAKY: tl.constexpr,
):  # fmt: skip
    """``du_i = sum over j and kept iterations of c_ij W_ij^T ds_j``, if EXACT also of ``db_ij W_ij^T V_j``.

    The rest as in `weight_gradient`. Grid (tiles of input capsules, tiles of images).
    """
    T: tl.constexpr = W.dtype.element_ty
    i0 = tl.program_id(0) * BI  # the first of a grid's sides alone may pass 65,535
    b0 = tl.program_id(1) * BB
    one = _size_c(B, I, J)
    step = tl.cast(B, tl.int64) * (J * O)
    w, w_mask = _w(W, i0, I, J, O, OP, D, DP, BI)
    first, v_mask = _v(DS0, b0, B, J, O, OP, BB)
    ds, v_mask = _v(DS, b0, B, J, O, OP, BB)
    v, v_mask = _v(V, b0, B, J, O, OP, BB)
    c, c_mask = _c(C, b0, i0, B, I, J, BB, BI)
    db, c_mask = _c(DB, b0, i0, B, I, J, BB, BI)
    du = tl.zeros((BB, BI * DP), tl.float32)
    for j in range(J):
        w_j = _load(w + j * (O * D), w_mask, T, DOT)
        if UNIFORM:
            du += tl.dot(_load(first + j * O, v_mask, T, DOT), w_j, None, PRECISION) * (1.0 / (J + LEAKY))
        for t in range(kept):
            back = tl.dot(_load(ds + (t * step + j * O), v_mask, T, DOT), w_j, None, PRECISION)
            du += _times(tl.load(c + (t * one + j * ROW), mask=c_mask, other=0.0).to(tl.float32), back, BB, BI, DP)
            if EXACT:
                back = tl.dot(_load(v + (t * step + j * O), v_mask, T, DOT), w_j, None, PRECISION)
                du += _times(tl.load(db + (t * one + j * ROW), mask=c_mask, other=0.0).to(tl.float32), back, BB, BI, DP)
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
