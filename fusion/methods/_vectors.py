"""Vectors of the processor, where numba's loops do not reach them: what the compiler cannot find out by itself.

Numba leaves it to the compiler to make vectors out of loops. It does so for simple loops only; it never keeps a row
of running sums in registers while it walks through a list. These functions write down what is meant in the
compiler's own language, which is the same for all processors: vectors are split or joined to what each one has.
"""

from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

intrinsic: Any = extending.intrinsic  # whose result takes one argument less than the function that makes it

WIDE = 64  # pixels of a row that are compared at once
LANES = 8  # sums in a vector
PLAIN, WEIGHTED = 6, 3  # most vectors that are summed in one walk, without and with weights

BITS, SIZE, LEVEL, REAL = ir.IntType(64), ir.IntType(64), ir.IntType(16), ir.FloatType()
U16, F32 = types.Array(types.uint16, 1, "C"), types.Array(types.float32, 1, "C")
CHECK = 4  # planes after which it pays to ask whether anything is similar still


@intrinsic
def similar_bits(typing, levels, first, stride, least, at, most, planes):  # type: ignore[no-untyped-def]
    """Which of 64 pixels of a row are similar to a centre, one bit each, the first pixel the lowest.

    levels : uint16 array; the row of plane q begins at ``first + q * stride`` and must have 64 pixels
    least : uint16 array; ``least[at + q]`` is the centre's level in plane q less the limit, wrapped
    most : uint16 array; twice the limit of each plane
    planes : number of planes

    A pixel is similar if ``level - least``, in 16 bits that wrap, is at most `most` in every plane.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        row, low, limit = (_data(context, builder, signature.args[i], args[i]) for i in (0, 3, 5))
        first, stride, at, planes = args[1], args[2], args[4], args[6]
        wide = ir.VectorType(LEVEL, WIDE)
        name = f"llvm.usub.sat.v{WIDE}i16"
        excess = cgutils.get_or_insert_function(builder.module, ir.FunctionType(wide, [wide, wide]), name)
        start, loop = builder.block, builder.append_basic_block("plane")
        check, following = builder.append_basic_block("check"), builder.append_basic_block("next")
        end = builder.append_basic_block("end")
        nothing = ir.Constant(wide, [0] * WIDE)
        builder.cbranch(builder.icmp_signed(">", planes, SIZE(0)), loop, end)

        builder.position_at_end(loop)
        q, over = builder.phi(SIZE), builder.phi(wide)
        place = builder.gep(row, [builder.add(first, builder.mul(q, stride))])
        level = builder.load(builder.bitcast(place, wide.as_pointer()), align=2)
        above = builder.sub(level, _splat(builder, builder.load(builder.gep(low, [builder.add(at, q)])), WIDE))
        beyond = builder.call(excess, [above, _splat(builder, builder.load(builder.gep(limit, [q])), WIDE)])
        sofar = builder.or_(over, beyond)
        after = builder.add(q, SIZE(1))
        pause = builder.icmp_signed("==", builder.and_(after, SIZE(CHECK - 1)), SIZE(0))
        builder.cbranch(builder.or_(pause, builder.icmp_signed("==", after, planes)), check, following)

        builder.position_at_end(check)
        bits = builder.bitcast(builder.icmp_unsigned("==", sofar, nothing), BITS)
        done = builder.or_(builder.icmp_unsigned("==", bits, BITS(0)), builder.icmp_signed("==", after, planes))
        builder.cbranch(done, end, following)

        builder.position_at_end(following)
        builder.branch(loop)
        q.add_incoming(SIZE(0), start)
        q.add_incoming(after, following)
        over.add_incoming(nothing, start)
        over.add_incoming(sofar, following)

        builder.position_at_end(end)
        out = builder.phi(BITS)
        out.add_incoming(BITS(2**64 - 1), start)
        out.add_incoming(bits, check)
        return out

    sizes = types.int64
    return types.uint64(U16, sizes, sizes, U16, sizes, U16, sizes), emit


@intrinsic
def add_rows(typing, bits, table, first, size, near, at, total, to, plain, weighted):  # type: ignore[no-untyped-def]
    """Add the vectors of the pixels whose bits are set to running sums, which stay in registers meanwhile.

    table : float32 array; pixel i has `size` numbers from ``first + i * size`` on: `plain` vectors of 8 that are
        summed as they are, then `weighted` vectors that are multiplied by ``near[at + i]``
    total : float32 array of sums, from `to` on
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        bits, first, size, at, to, plain, weighted = (args[i] for i in (0, 2, 3, 5, 7, 8, 9))
        rows, weights, sums = (_data(context, builder, signature.args[i], args[i]) for i in (1, 4, 6))
        end = builder.append_basic_block("end")
        begin = builder.append_basic_block("begin")
        builder.cbranch(builder.icmp_unsigned("==", bits, BITS(0)), end, begin)
        builder.position_at_end(begin)
        which = builder.switch(builder.add(builder.mul(plain, SIZE(WEIGHTED + 1)), weighted), end)
        for p in range(PLAIN + 1):
            for w in range(WEIGHTED + 1):
                if p + w:
                    case = builder.append_basic_block(f"case{p}_{w}")
                    which.add_case(SIZE(p * (WEIGHTED + 1) + w), case)
                    builder.position_at_end(case)
                    _walk(builder, bits, (rows, first, size), (weights, at), (sums, to), p, w)
                    builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    sizes = types.int64
    return types.void(types.uint64, F32, sizes, sizes, F32, sizes, F32, sizes, sizes, sizes), emit


def _walk(builder: ir.IRBuilder, bits: Any, rows: Any, weights: Any, sums: Any, plain: int, weighted: int) -> None:
    """Write the loop over set bits with this many vectors."""
    vector = ir.VectorType(REAL, LANES)
    first_one = builder.module.declare_intrinsic("llvm.cttz", (BITS,), ir.FunctionType(BITS, [BITS, ir.IntType(1)]))

    def at(base: Any, index: Any) -> Any:
        return builder.bitcast(builder.gep(base, [index]), vector.as_pointer())

    places = [at(sums[0], builder.add(sums[1], SIZE(LANES * j))) for j in range(plain + weighted)]
    begun = [builder.load(place, align=4) for place in places]
    before, loop, done = builder.block, builder.append_basic_block("bit"), builder.append_basic_block("done")
    builder.branch(loop)

    builder.position_at_end(loop)
    left, running = builder.phi(BITS), [builder.phi(vector) for _ in places]
    i = builder.call(first_one, [left, ir.IntType(1)(1)])
    row = builder.add(rows[1], builder.mul(i, rows[2]))
    near = _splat(builder, builder.load(builder.gep(weights[0], [builder.add(weights[1], i)])), LANES)
    after = []
    for j, total in enumerate(running):
        values = builder.load(at(rows[0], builder.add(row, SIZE(LANES * j))), align=4)
        if j >= plain:
            values = builder.fmul(near, values, flags=("contract",))
        after.append(builder.fadd(total, values, flags=("contract",)))
    rest = builder.and_(left, builder.sub(left, BITS(1)))
    builder.cbranch(builder.icmp_unsigned("==", rest, BITS(0)), done, loop)
    left.add_incoming(bits, before)
    left.add_incoming(rest, loop)
    for phi, old, new in zip(running, begun, after, strict=True):
        phi.add_incoming(old, before)
        phi.add_incoming(new, loop)

    builder.position_at_end(done)
    for place, new in zip(places, after, strict=True):
        builder.store(new, place, align=4)


@intrinsic
def count_bits(typing, bits):  # type: ignore[no-untyped-def]
    """How many bits are set."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.ctpop", (BITS,)), [args[0]])

    return types.int64(types.uint64), emit


def _data(context: Any, builder: ir.IRBuilder, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


def _splat(builder: ir.IRBuilder, value: Any, lanes: int) -> Any:
    """A vector with one value in all lanes."""
    none = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(builder.insert_element(none, value, ir.IntType(32)(0)), none, first)
