"""Compiled kernels for the input gradient of a CDC network: one image per vector lane, 16 (or 8) at a time.

Every array keeps the image as its last, fastest index, so that each vector instruction does the same step for all of
them. An image's result therefore never depends on the other images of its batch, on its place in it, or on the number
of threads. Each sum is taken in the same order at all four positions of a pooling window: equal values stay equal
and the first one wins, as in torch. Only multiply-add contraction is allowed; no sum is reordered.

Two generators write the inner loops as LLVM vector code: `_window_sums` (3 × 3 convolution over a patch of pixels and
several output channels at once, sums held in registers) and `_product_kernel` (8 rows of a matrix times a panel of
images). The functions below them are plain loops over patches and tiles. Channel counts are padded with zero weights
to a multiple of `OUT_BLOCK`, widths of linear layers to a multiple of 8.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, prange, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

# Registers decide: 32 of 16 numbers with AVX-512, 16 of 8 numbers with AVX2. The results are the same either way.
_WIDE = bool(get_host_cpu_features().get("avx512f"))
LANES = 16 if _WIDE else 8  # images per vector
PANEL = 2 * LANES  # images per panel of the linear layers
OUT_BLOCK = 4 if _WIDE else 2  # output channels per patch
ROW_BLOCK = 8  # matrix rows per tile of the linear layers
K_BLOCK = 128  # columns per tile of the linear layers
STRIP = 8  # columns per patch where there is one output channel
TILE = ROW_BLOCK * K_BLOCK  # weights per tile
DEAD = 4  # code of a pooled value that the ReLU has set to zero

_FLOAT = ir.FloatType()
_INT64 = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)


def _pointer(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _load(builder, pointer, step, vector=_VECTOR):
    address = builder.bitcast(builder.gep(pointer, [step]), vector.as_pointer())
    return builder.load(address, align=4 if vector is _VECTOR else 1)


def _store(builder, value, pointer, step):
    address = builder.bitcast(builder.gep(pointer, [step]), value.type.as_pointer())
    builder.store(value, address, align=4 if value.type is _VECTOR else 1)


def _flat(array, dtype=types.float32):
    """The type of an argument, after making sure that its data lie one behind the other."""
    if not isinstance(array, types.Array) or (array.dtype, array.ndim, array.layout) != (dtype, 1, "C"):
        raise TypingError(f"found {array}, expected a contiguous array of {dtype} with one dimension")
    return array


def _int(value):
    return ir.Constant(_INT64, value)


def _splat(builder, scalar, vector=_VECTOR):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _constant(vector, value):
    return ir.Constant(vector, [value] * LANES)


def _multiply_add(builder, a, b, c):
    name = f"llvm.fmuladd.v{LANES}f32"
    function_type = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), [a, b, c])


def _sum_loop(builder, count, start, body):
    """Emit `for i in range(count): sums = body(i, sums)` with the sums in registers; returns the final sums."""
    before = builder.block
    loop = builder.append_basic_block("sum")
    after = builder.append_basic_block("summed")
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(_INT64)
    sums = [builder.phi(_VECTOR) for _ in start]
    new = body(index, sums)
    following = builder.add(index, _int(1))
    index.add_incoming(_int(0), before)
    index.add_incoming(following, builder.block)
    for phi, first, value in zip(sums, start, new, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return new


def _window_sums(builder, source, row_starts, channel_stride, n_in, weights, start, rows, columns, outs):
    """Emit the 3 × 3 convolution of a patch of rows × columns pixels for `outs` output channels.

    Returns the sums in the order [row][column][out]. Each is taken in the same order: channel, tap row, tap column.
    """

    def body(channel, sums):
        base = builder.mul(channel, channel_stride)
        window = [
            [
                _load(builder, source, builder.add(builder.add(base, row_start), _int(column * LANES)))
                for column in range(columns + 2)
            ]
            for row_start in row_starts
        ]
        taps = builder.gep(weights, [builder.mul(channel, _int(9 * outs))])
        sums = list(sums)
        for tap_row in range(3):
            for tap_column in range(3):
                for out in range(outs):
                    step = _int((tap_row * 3 + tap_column) * outs + out)
                    weight = _splat(builder, builder.load(builder.gep(taps, [step])))
                    for row in range(rows):
                        for column in range(columns):
                            i = (row * columns + column) * outs + out
                            value = window[row + tap_row][column + tap_column]
                            sums[i] = _multiply_add(builder, value, weight, sums[i])
        return sums

    return _sum_loop(builder, n_in, start, body)


@intrinsic
def pooled_patch(
    typingctx, source, row_starts, channel_stride, n_in, weights, weight_at, bias, bias_at, out, out_at, out_stride,
    codes, codes_at, codes_stride,
):  # fmt: skip
    """Convolution, ReLU and 2 × 2 maximum for one pooled pixel and OUT_BLOCK channels; stores values and codes."""

    def codegen(context, builder, signature, arguments):
        (source, row_starts, channel_stride, n_in, weights, weight_at, bias, bias_at, out, out_at, out_stride,
         codes, codes_at, codes_stride) = arguments  # fmt: skip
        kinds = signature.args
        source = _pointer(context, builder, kinds[0], source, _int(0))
        weights = _pointer(context, builder, kinds[4], weights, weight_at)
        bias = _pointer(context, builder, kinds[6], bias, bias_at)
        out = _pointer(context, builder, kinds[8], out, out_at)
        codes = _pointer(context, builder, kinds[11], codes, codes_at)
        offsets = [_splat(builder, builder.load(builder.gep(bias, [_int(o)]))) for o in range(OUT_BLOCK)]
        rows = cgutils.unpack_tuple(builder, row_starts, 4)
        sums = _window_sums(
            builder, source, rows, channel_stride, n_in, weights, offsets * 4, 2, 2, OUT_BLOCK
        )  # fmt: skip
        zero = _constant(_VECTOR, 0.0)
        for o in range(OUT_BLOCK):
            best, code = sums[o], _constant(_BYTES, 0)
            for position in range(1, 4):
                value = sums[position * OUT_BLOCK + o]
                larger = builder.fcmp_ordered(">", value, best)
                best = builder.select(larger, value, best)
                code = builder.select(larger, _constant(_BYTES, position), code)
            alive = builder.fcmp_ordered(">", best, zero)
            _store(builder, builder.select(alive, best, zero), out, builder.mul(out_stride, _int(o)))
            code = builder.select(alive, code, _constant(_BYTES, DEAD))
            _store(builder, code, codes, builder.mul(codes_stride, _int(o)))
        return context.get_dummy_value()

    i = types.int64
    rows = types.UniTuple(i, 4)
    return types.void(
        _flat(source), rows, i, i, _flat(weights), i, _flat(bias), i, _flat(out), i, i, _flat(codes, types.uint8), i, i
    ), codegen


def _patch_kernel(n_wide, n_outs, rectify):
    """Make the kernel for a convolution of 2 × n_wide pixels and n_outs channels, with ReLU if `rectify`."""

    @intrinsic
    def patch(
        typingctx, source, row_starts, channel_stride, n_in, weights, weight_at, bias, bias_at, out, out_at,
        out_strides, n_rows, n_columns,
    ):  # fmt: skip
        """Store n_rows × n_columns pixels of the patch; out_strides are (row, column, channel)."""

        def codegen(context, builder, signature, arguments):
            (source, row_starts, channel_stride, n_in, weights, weight_at, bias, bias_at, out, out_at, out_strides,
             n_rows, n_columns) = arguments  # fmt: skip
            kinds = signature.args
            source = _pointer(context, builder, kinds[0], source, _int(0))
            weights = _pointer(context, builder, kinds[4], weights, weight_at)
            bias = _pointer(context, builder, kinds[6], bias, bias_at)
            out = _pointer(context, builder, kinds[8], out, out_at)
            offsets = [_splat(builder, builder.load(builder.gep(bias, [_int(o)]))) for o in range(n_outs)]
            rows = cgutils.unpack_tuple(builder, row_starts, 4)
            start = offsets * (2 * n_wide)
            sums = _window_sums(builder, source, rows, channel_stride, n_in, weights, start, 2, n_wide, n_outs)
            row_stride, column_stride, out_stride = cgutils.unpack_tuple(builder, out_strides, 3)
            zero = _constant(_VECTOR, 0.0)
            for row in range(2):
                for column in range(n_wide):
                    inside = builder.and_(
                        builder.icmp_signed(">", n_rows, _int(row)), builder.icmp_signed(">", n_columns, _int(column))
                    )
                    with builder.if_then(inside):
                        across, down = builder.mul(column_stride, _int(column)), builder.mul(row_stride, _int(row))
                        pixel = builder.add(across, down)
                        for o in range(n_outs):
                            value = sums[(row * n_wide + column) * n_outs + o]
                            if rectify:
                                value = builder.select(builder.fcmp_ordered(">", value, zero), value, zero)
                            _store(builder, value, out, builder.add(pixel, builder.mul(out_stride, _int(o))))
            return context.get_dummy_value()

        i = types.int64
        rows, strides = types.UniTuple(i, 4), types.UniTuple(i, 3)
        return types.void(
            _flat(source), rows, i, i, _flat(weights), i, _flat(bias), i, _flat(out), i, strides, i, i
        ), codegen

    return patch


rectified_patch = _patch_kernel(2, OUT_BLOCK, True)
plain_patch = _patch_kernel(2, OUT_BLOCK, False)
plain_strip = _patch_kernel(STRIP, 1, False)


@intrinsic
def unpool(typingctx, values, values_at, codes, codes_at, lower, out, out_at):
    """Put pooled gradients back to the two columns they came from, in the upper (0) or lower (1) row."""

    def codegen(context, builder, signature, arguments):
        values, values_at, codes, codes_at, lower, out, out_at = arguments
        kinds = signature.args
        value = _load(builder, _pointer(context, builder, kinds[0], values, values_at), _int(0))
        code = _load(builder, _pointer(context, builder, kinds[2], codes, codes_at), _int(0), _BYTES)
        out = _pointer(context, builder, kinds[5], out, out_at)
        left = builder.mul(builder.trunc(lower, ir.IntType(8)), ir.Constant(ir.IntType(8), 2))
        for column in range(2):
            position = _splat(builder, builder.add(left, ir.Constant(ir.IntType(8), column)), _BYTES)
            chosen = builder.icmp_unsigned("==", code, position)
            _store(builder, builder.select(chosen, value, _constant(_VECTOR, 0.0)), out, _int(column * LANES))
        return context.get_dummy_value()

    i = types.int64
    return types.void(_flat(values), i, _flat(codes, types.uint8), i, i, _flat(out), i), codegen


def _product_kernel(finish, transposed):
    """Make the kernel that multiplies a tile of a packed matrix by the images of a panel.

    finish: "add" adds to `out`; "store" overwrites it; "mask" overwrites it where it is positive and puts 0 elsewhere,
    which is the backward step of a ReLU whose output `out` holds.
    transposed: False gives 8 rows, summed over 8 columns per step; True gives 8 columns, summed over 8 rows per step.
    """
    across, along = (ROW_BLOCK, 1) if transposed else (1, ROW_BLOCK)  # steps between results, between summands

    @intrinsic
    def product_tile(typingctx, weights, weight_at, step, values, values_at, n_steps, out, out_at):
        """Eight results for PANEL images, summed over n_steps squares of 8 × 8 weights, `step` entries apart."""

        def codegen(context, builder, signature, arguments):
            weights, weight_at, step, values, values_at, n_steps, out, out_at = arguments
            kinds = signature.args
            weights = _pointer(context, builder, kinds[0], weights, weight_at)
            values = _pointer(context, builder, kinds[3], values, values_at)
            out = _pointer(context, builder, kinds[6], out, out_at)
            halves = PANEL // LANES
            zero = _constant(_VECTOR, 0.0)

            def body(index, sums):
                square = builder.gep(weights, [builder.mul(index, step)])
                panel = builder.gep(values, [builder.mul(index, _int(ROW_BLOCK * PANEL))])
                sums = list(sums)
                for summand in range(ROW_BLOCK):
                    vectors = [_load(builder, panel, _int(summand * PANEL + half * LANES)) for half in range(halves)]
                    for result in range(ROW_BLOCK):
                        at = _int(result * across + summand * along)
                        weight = _splat(builder, builder.load(builder.gep(square, [at])))
                        for half in range(halves):
                            i = result * halves + half
                            sums[i] = _multiply_add(builder, vectors[half], weight, sums[i])
                return sums

            sums = _sum_loop(builder, n_steps, [zero] * (ROW_BLOCK * halves), body)
            for i, value in enumerate(sums):
                if finish != "store":
                    before = _load(builder, out, _int(i * LANES))
                    if finish == "add":
                        value = builder.fadd(before, value)
                    else:
                        value = builder.select(builder.fcmp_ordered(">", before, zero), value, zero)
                _store(builder, value, out, _int(i * LANES))
            return context.get_dummy_value()

        i = types.int64
        return types.void(_flat(weights), i, i, _flat(values), i, i, _flat(out), i), codegen

    return product_tile


add_product = _product_kernel("add", False)
store_product = _product_kernel("store", True)
mask_product = _product_kernel("mask", True)


@njit(cache=True)
def _image_row(images, first, row, ring, start):
    """Write one row of LANES images, image last, at `start` of `ring`; zeros where there is no image or row."""
    n, height, width = images.shape
    for lane in range(LANES):
        if first + lane < n and 0 <= row < height:
            for x in range(width):
                ring[start + x * LANES + lane] = images[first + lane, row, x]
        else:
            for x in range(width):
                ring[start + x * LANES + lane] = 0


@njit(cache=True)
def _unpooled_row(pooled, codes, channels, row, height, ring, ring_width):
    """Write row `row` of the gradient before pooling at its place in a ring of four rows per channel."""
    for channel in range(channels):
        start = (channel * 4 + row % 4) * ring_width + LANES
        if 0 <= row < 2 * height:
            source = (channel * height + row // 2) * height * LANES
            for x in range(height):
                at = source + x * LANES
                unpool(pooled, at, codes, at, row % 2, ring, start + 2 * x * LANES)
        else:
            ring[start : start + 2 * height * LANES] = 0


@njit(cache=True)
def _ring_rows(row, width, at):
    """Offsets of the rows row - 1 ... row + 2 in a ring of four rows, `at` entries from their left."""
    return (
        ((row - 1) % 4) * width + at,
        (row % 4) * width + at,
        ((row + 1) % 4) * width + at,
        ((row + 2) % 4) * width + at,
    )


@njit(cache=True, parallel=True, nogil=True)
def convolutions(images, weights, biases, channels, ring0s, ring1s, pooleds, codes1, codes2, features):
    """Forward pass of the three convolutions: fills codes1, codes2 and features.

    The first pooled layer is made row by row in a ring of four rows, so that it stays in the second-level cache; only
    the codes are kept for the backward pass.

    Args:
        images: (n, s, s) float32.
        weights, biases: (3,) tuples, packed, batch normalisation folded in.
        channels: (3,) int64, channels of the three convolutions.
        ring0s, ring1s, pooleds: (groups, ...) float32 scratch, zero before its first use.
        codes1, codes2: (groups, ...) uint8, position of each maximum in its window, or DEAD.
        features: (panels, K * PANEL) float32, input of the first linear layer.
    """
    n, size, _ = images.shape
    half, quarter = size // 2, size // 4
    c1, c2, c3 = channels[0], channels[1], channels[2]
    (w1, w2, w3), (b1, b2, b3) = weights, biases
    wide0, wide1, wide2 = (size + 4) * LANES, (half + 4) * LANES, (quarter + 4) * LANES
    for group in prange((n + LANES - 1) // LANES):
        ring0, ring1, pooled = ring0s[group], ring1s[group], pooleds[group]
        chosen1, chosen2 = codes1[group], codes2[group]
        for channel in range(c1):  # row -1
            ring1[(channel * 4 + 3) * wide1 : (channel * 4 + 4) * wide1] = 0
        made = 0  # rows of the first pooled layer made so far
        for y in range(quarter):
            while made < min(2 * y + 3, half):
                for row in range(-1 if made == 0 else 2 * made + 1, 2 * made + 3):
                    _image_row(images, group * LANES, row, ring0, (row % 4) * wide0 + LANES)
                for x in range(half):
                    rows = _ring_rows(2 * made, wide0, 2 * x * LANES)
                    for out in range(0, c1, OUT_BLOCK):
                        pooled_patch(
                            ring0, rows, 0, 1, w1, out * 9, b1, out,
                            ring1, (out * 4 + made % 4) * wide1 + (x + 1) * LANES, 4 * wide1,
                            chosen1, ((out * half + made) * half + x) * LANES, half * half * LANES,
                        )  # fmt: skip
                made += 1
            if 2 * y + 2 >= half:  # the row below the last one
                for channel in range(c1):
                    start = (channel * 4 + (2 * y + 2) % 4) * wide1
                    ring1[start : start + wide1] = 0
            for x in range(quarter):
                rows = _ring_rows(2 * y, wide1, 2 * x * LANES)
                for out in range(0, c2, OUT_BLOCK):
                    pooled_patch(
                        ring1, rows, 4 * wide1, c1, w2, out * 9 * c1, b2, out,
                        pooled, (out * (quarter + 4) + y + 1) * wide2 + (x + 1) * LANES, (quarter + 4) * wide2,
                        chosen2, ((out * quarter + y) * quarter + x) * LANES, quarter * quarter * LANES,
                    )  # fmt: skip
        panel, lane = features[group * LANES // PANEL], group * LANES % PANEL
        for y in range(0, quarter, 2):
            for x in range(0, quarter, 2):
                at = y * wide2 + x * LANES
                rows = (at, at + wide2, at + 2 * wide2, at + 3 * wide2)
                for out in range(0, c3, OUT_BLOCK):
                    rectified_patch(
                        pooled, rows, (quarter + 4) * wide2, c2, w3, out * 9 * c2, b3, out,
                        panel, ((out * quarter + y) * quarter + x) * PANEL + lane,
                        (quarter * PANEL, PANEL, quarter * quarter * PANEL), quarter - y, quarter - x,
                    )  # fmt: skip


@njit(cache=True, parallel=True, nogil=True)
def convolutions_backward(gradient, codes1, codes2, zeros, weights, channels, rings, gradients, strips, out):
    """Backward pass of `convolutions`: from the gradient before the third ReLU to the gradient of the images.

    Args:
        gradient: (panels, K * PANEL) float32, already zero where the third ReLU was.
        codes1, codes2: as `convolutions` left them.
        zeros: float32 zeros, OUT_BLOCK of them.
        weights: (3,) tuple, packed turned weights, those of the third convolution first.
        channels: (3,) int64.
        rings, gradients, strips: (3,) and (2,) tuples of (groups, ...), and (groups, ...): float32 scratch, the last
            layer first, zero before its first use.
        out: (n, s, s) float32.
    """
    n, size, _ = out.shape
    half, quarter = size // 2, size // 4
    c1, c2, c3 = channels[0], channels[1], channels[2]
    (w3, w2, w1), (ring3s, ring2s, ring1s), (grad2s, grad1s) = weights, rings, gradients
    wide0, wide1, wide2 = (size + 12) * LANES, (half + 4) * LANES, (quarter + 4) * LANES
    for group in prange((n + LANES - 1) // LANES):
        ring3, grad2, ring2 = ring3s[group], grad2s[group], ring2s[group]
        grad1, ring1, strip = grad1s[group], ring1s[group], strips[group]
        panel, lane = gradient[group * LANES // PANEL], group * LANES % PANEL
        for y in range(0, quarter, 2):
            for row in range(-1 if y == 0 else y + 1, y + 3):
                for channel in range(c3):
                    start = (channel * 4 + row % 4) * wide2 + LANES
                    if 0 <= row < quarter:
                        source = (channel * quarter + row) * quarter * PANEL + lane
                        for x in range(quarter):
                            for i in range(LANES):
                                ring3[start + x * LANES + i] = panel[source + x * PANEL + i]
                    else:
                        ring3[start : start + quarter * LANES] = 0
            for x in range(0, quarter, 2):
                rows = _ring_rows(y, wide2, x * LANES)
                for channel in range(0, c2, OUT_BLOCK):
                    plain_patch(
                        ring3, rows, 4 * wide2, c3, w3, channel * 9 * c3, zeros, 0,
                        grad2, ((channel * quarter + y) * quarter + x) * LANES,
                        (quarter * LANES, LANES, quarter * quarter * LANES), quarter - y, quarter - x,
                    )  # fmt: skip
        for y in range(0, half, 2):
            for row in range(-1 if y == 0 else y + 1, y + 3):
                _unpooled_row(grad2, codes2[group], c2, row, quarter, ring2, wide1)
            for x in range(0, half, 2):
                rows = _ring_rows(y, wide1, x * LANES)
                for channel in range(0, c1, OUT_BLOCK):
                    plain_patch(
                        ring2, rows, 4 * wide1, c2, w2, channel * 9 * c2, zeros, 0,
                        grad1, ((channel * half + y) * half + x) * LANES,
                        (half * LANES, LANES, half * half * LANES), half - y, half - x,
                    )  # fmt: skip
        for y in range(0, size, 2):
            for row in range(-1 if y == 0 else y + 1, y + 3):
                _unpooled_row(grad1, codes1[group], c1, row, half, ring1, wide0)
            for x in range(0, size, STRIP):
                plain_strip(
                    ring1, _ring_rows(y, wide0, x * LANES), 4 * wide0, c1, w1, 0, zeros, 0,
                    strip, x * LANES, (size * LANES, LANES, 0), size - y, size - x,
                )  # fmt: skip
            for row in range(y, min(y + 2, size)):
                for image in range(group * LANES, min((group + 1) * LANES, n)):
                    start = (row - y) * size * LANES + image - group * LANES
                    for x in range(size):
                        out[image, row, x] = strip[start + x * LANES]


@njit(cache=True, parallel=True, nogil=True)
def linear(values, weights, bias, rectify, tasks, out):
    """Linear layer, with ReLU if `rectify`.

    Each entry is summed in blocks of K_BLOCK, in an order that depends neither on `tasks` nor on the number of images.

    Args:
        values: (panels, K * PANEL) float32, K a multiple of K_BLOCK.
        weights: packed (`pack_linear`), bias: (rows,) float32, rows a multiple of ROW_BLOCK.
        tasks: parts into which the rows are cut.
        out: (panels, at least rows * PANEL) float32.
    """
    panels, rows = len(values), len(bias)
    tiles = rows // ROW_BLOCK
    blocks = weights.size // (tiles * TILE)
    for task in prange(tasks):
        first, last = tiles * task // tasks, tiles * (task + 1) // tasks
        out[:, first * ROW_BLOCK * PANEL : last * ROW_BLOCK * PANEL] = 0
        for block in range(blocks):
            for panel in range(panels):
                for tile in range(first, last):
                    add_product(
                        weights, (block * tiles + tile) * TILE, ROW_BLOCK * ROW_BLOCK,
                        values[panel], block * K_BLOCK * PANEL, K_BLOCK // ROW_BLOCK,
                        out[panel], tile * ROW_BLOCK * PANEL,
                    )  # fmt: skip
        for panel in range(panels):
            for row in range(first * ROW_BLOCK, last * ROW_BLOCK):
                for i in range(row * PANEL, (row + 1) * PANEL):
                    value = out[panel, i] + bias[row]
                    out[panel, i] = max(value, np.float32(0)) if rectify else value


@njit(cache=True, parallel=True, nogil=True)
def linear_backward(gradient, weights, rows, rectified, values):
    """Gradient of a linear layer's input, which replaces that input; zero where it was not positive if `rectified`.

    Args:
        gradient: (panels, rows * PANEL) float32 of the layer's output.
        weights: packed (`pack_linear`); rows: its rows, a multiple of ROW_BLOCK.
        rectified: the input came out of a ReLU.
        values: (panels, K * PANEL) float32, in: the layer's input, out: its gradient.
    """
    tiles = rows // ROW_BLOCK
    for block in prange(weights.size // (tiles * TILE)):
        for panel in range(len(values)):
            for k in range(0, K_BLOCK, ROW_BLOCK):
                at = block * tiles * TILE + k * ROW_BLOCK
                out_at = (block * K_BLOCK + k) * PANEL
                if rectified:
                    mask_product(weights, at, TILE, gradient[panel], 0, tiles, values[panel], out_at)
                else:
                    store_product(weights, at, TILE, gradient[panel], 0, tiles, values[panel], out_at)


def pack_convolution(weight: np.ndarray, out_block: int = OUT_BLOCK) -> np.ndarray:
    """Weights (out, in, 3, 3) -> flat float32 in the order [block of outputs][in][tap][output], padded with zeros."""
    outs, ins = weight.shape[:2]
    padded = np.zeros((-(-outs // out_block) * out_block, ins, 9), np.float32)
    padded[:outs] = weight.reshape(outs, ins, 9)
    return padded.reshape(-1, out_block, ins, 9).transpose(0, 2, 3, 1).ravel()


def pack_turned(weight: np.ndarray, out_block: int = OUT_BLOCK) -> np.ndarray:
    """Weights (out, in, 3, 3) of a convolution -> packed weights of its backward pass (in and out swapped, turned)."""
    return pack_convolution(weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1], out_block)


def pack_linear(weight: np.ndarray, columns: int) -> np.ndarray:
    """Weights (rows, k) -> flat float32 [block of K_BLOCK columns][tile of ROW_BLOCK rows][column][row].

    k is padded with zeros to at least `columns`; rows and columns are padded to whole tiles.
    """
    rows, k = weight.shape
    n_tiles, n_blocks = -(-rows // ROW_BLOCK), -(-columns // K_BLOCK)
    packed = np.zeros((n_blocks, n_tiles, K_BLOCK, ROW_BLOCK), np.float32)
    for first in range(0, k, K_BLOCK):
        part = np.zeros((n_tiles * ROW_BLOCK, K_BLOCK), np.float32)
        part[:rows, : min(K_BLOCK, k - first)] = weight[:, first : first + K_BLOCK]
        packed[first // K_BLOCK] = part.reshape(n_tiles, ROW_BLOCK, K_BLOCK).transpose(0, 2, 1)
    return packed.ravel()
