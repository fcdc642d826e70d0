# The loops of arithmetic, comparisons and elementary functions, element by element.
cdef enum:
    ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM, RELU_GRAD, SIGMOID_GRAD
    EQ, NE, LT, LE, GT, GE
    NEG, ABSOLUTE, SIGN, SQRT_OF, SQUARE, CUBE, RECIPROCAL, RECIPROCAL_OF_SQUARE, RELU
    EXP_OF, EXPM1_OF, LOG_OF, LOG1P_OF, TANH_OF, ERF_OF, SIGMOID_OF

cdef enum:
    FIRST_MOVES = 1
    SECOND_MOVES = 2
    N_LOOPS = 3


cdef inline vec at(const real* x) noexcept nogil:
    return (<const uvec*>x)[0]


cdef inline vec combined(int op, vec a, vec b) noexcept nogil:
    if op == ADD:
        return a + b
    if op == SUB:
        return a - b
    if op == MUL:
        return a * b
    if op == DIV:
        return a / b
    if op == MAXIMUM:  # VMAX gives its second operand where one is NaN
        return VSELECT(VEQUAL(a, a), VMAX(a, b), a)
    if op == MINIMUM:
        return VSELECT(VEQUAL(a, a), VMIN(a, b), a)
    if op == RELU_GRAD:
        return VANDNOT(a, VLESSEQ0(b))
    return a * (b * (VSET1(<real>1) - b))  # SIGMOID_GRAD


cdef inline ivec compared(int op, vec a, vec b) noexcept nogil:
    if op == EQ:
        return VEQUAL(a, b)
    if op == NE:
        return ~VEQUAL(a, b)
    if op == LT:
        return VLESS(a, b)
    if op == LE:
        return VLESSEQ(a, b)
    if op == GT:
        return VLESS(b, a)
    return VLESSEQ(b, a)


cdef inline vec applied(int op, vec x) noexcept nogil:
    if op == NEG:
        return -x
    if op == ABSOLUTE:
        return size_of_each(x)
    if op == SIGN:
        return VAND(VSET1(<real>1), VLESS(VZERO, x)) - VAND(VSET1(<real>1), VLESS0(x))
    if op == SQRT_OF:
        return VSQRT(x)
    if op == SQUARE:
        return x * x
    if op == CUBE:
        return x * x * x
    if op == RECIPROCAL:
        return VSET1(<real>1) / x
    if op == RECIPROCAL_OF_SQUARE:
        return VSET1(<real>1) / (x * x)
    if op == RELU:
        return VANDNOT(x, VLESS0(x))
    if op == EXP_OF:
        return exp_of(x)
    if op == EXPM1_OF:
        return expm1_of(x)
    if op == LOG_OF:
        return log_of(x)
    if op == LOG1P_OF:
        return log1p_of(x)
    if op == TANH_OF:
        return tanh_of(x)
    if op == ERF_OF:
        return erf_of(x)
    return sigmoid_of(x)


cdef inline void store_row(int op, const real* a, const real* b, char* out, Py_ssize_t n, bint a_moves,
                           bint b_moves) noexcept nogil:
    cdef vec x = VSET1(a[0]), y = VSET1(b[0])
    cdef Py_ssize_t i = 0
    while i + VL <= n:
        if a_moves:
            x = at(a + i)
        if b_moves:
            y = at(b + i)
        if op < EQ:
            (<uvec*>(<real*>out + i))[0] = combined(op, x, y)
        else:
            (<u8vec*>(<u8*>out + i))[0] = TO_BYTES(-compared(op, x, y))
        i += VL
    if i < n:
        if a_moves:
            x = VLOADN(a + i, n - i)
        if b_moves:
            y = VLOADN(b + i, n - i)
        if op < EQ:
            VSTOREN(<real*>out + i, combined(op, x, y), n - i)
        else:
            STORE_BYTES(<u8*>out + i, TO_BYTES(-compared(op, x, y)), n - i)


cdef inline void row_of(int op, const real* a, const real* b, char* out, Py_ssize_t n, int moving) noexcept nogil:
    if moving == FIRST_MOVES | SECOND_MOVES:
        store_row(op, a, b, out, n, True, True)
    elif moving == FIRST_MOVES:
        store_row(op, a, b, out, n, True, False)
    else:
        store_row(op, a, b, out, n, False, True)


cdef void binary_row(int op, const real* a, const real* b, char* out, Py_ssize_t n, int moving) noexcept nogil:
    """n entries, at least one. What does not move along them is one number. Each case is a loop of its own."""
    if op == ADD:
        row_of(ADD, a, b, out, n, moving)
    elif op == SUB:
        row_of(SUB, a, b, out, n, moving)
    elif op == MUL:
        row_of(MUL, a, b, out, n, moving)
    elif op == DIV:
        row_of(DIV, a, b, out, n, moving)
    elif op == MAXIMUM:
        row_of(MAXIMUM, a, b, out, n, moving)
    elif op == MINIMUM:
        row_of(MINIMUM, a, b, out, n, moving)
    elif op == RELU_GRAD:
        row_of(RELU_GRAD, a, b, out, n, moving)
    elif op == SIGMOID_GRAD:
        row_of(SIGMOID_GRAD, a, b, out, n, moving)
    elif op == EQ:
        row_of(EQ, a, b, out, n, moving)
    elif op == NE:
        row_of(NE, a, b, out, n, moving)
    elif op == LT:
        row_of(LT, a, b, out, n, moving)
    elif op == LE:
        row_of(LE, a, b, out, n, moving)
    elif op == GT:
        row_of(GT, a, b, out, n, moving)
    else:
        row_of(GE, a, b, out, n, moving)


cdef inline void over_row(int op, const real* x, real* out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VL <= n:
        (<uvec*>(out + i))[0] = applied(op, at(x + i))
        i += VL
    if i < n:
        VSTOREN(out + i, applied(op, VLOADN(x + i, n - i)), n - i)


cdef void unary_row(int op, const real* x, real* out, Py_ssize_t n) noexcept nogil:
    if op == NEG:
        over_row(NEG, x, out, n)
    elif op == ABSOLUTE:
        over_row(ABSOLUTE, x, out, n)
    elif op == SIGN:
        over_row(SIGN, x, out, n)
    elif op == SQRT_OF:
        over_row(SQRT_OF, x, out, n)
    elif op == SQUARE:
        over_row(SQUARE, x, out, n)
    elif op == CUBE:
        over_row(CUBE, x, out, n)
    elif op == RECIPROCAL:
        over_row(RECIPROCAL, x, out, n)
    elif op == RECIPROCAL_OF_SQUARE:
        over_row(RECIPROCAL_OF_SQUARE, x, out, n)
    elif op == RELU:
        over_row(RELU, x, out, n)
    elif op == EXP_OF:
        over_row(EXP_OF, x, out, n)
    elif op == EXPM1_OF:
        over_row(EXPM1_OF, x, out, n)
    elif op == LOG_OF:
        over_row(LOG_OF, x, out, n)
    elif op == LOG1P_OF:
        over_row(LOG1P_OF, x, out, n)
    elif op == TANH_OF:
        over_row(TANH_OF, x, out, n)
    elif op == ERF_OF:
        over_row(ERF_OF, x, out, n)
    else:
        over_row(SIGMOID_OF, x, out, n)


cdef inline vec chosen(u8vec condition, vec a) noexcept nogil:
    return VANDNOT(a, IEQUAL(FROM_BYTES(condition), 0))


cdef inline void select_row(const u8* condition, const real* a, real* out, Py_ssize_t n, bint a_moves) noexcept nogil:
    cdef vec x = VSET1(a[0])
    cdef Py_ssize_t i = 0
    while i + VL <= n:
        if a_moves:
            x = at(a + i)
        (<uvec*>(out + i))[0] = chosen((<const u8vec*>(condition + i))[0], x)
        i += VL
    if i < n:
        if a_moves:
            x = VLOADN(a + i, n - i)
        VSTOREN(out + i, chosen(LOAD_BYTES(condition + i, n - i), x), n - i)


# Two operands that broadcast. Axes next to each other along which the same operands move are one loop, innermost first.
cdef struct Broadcast:
    int op
    int moving[N_LOOPS]
    Py_ssize_t sizes[N_LOOPS]
    Py_ssize_t a_steps[N_LOOPS]
    Py_ssize_t b_steps[N_LOOPS]
    const real* a
    const real* b
    char* out
    Py_ssize_t out_step  # bytes an entry


cdef int plan_loops(Broadcast* p, int a_ndim, const cnp.npy_intp* a_dims, int b_ndim, const cnp.npy_intp* b_dims,
                    cnp.npy_intp* dims) noexcept nogil:
    """The loops, and the result's shape in `dims`. -1 where they do not broadcast, or need more loops."""
    cdef int ndim = max(a_ndim, b_ndim), loop = -1, moving, i
    cdef Py_ssize_t a_size, b_size, size
    for i in range(N_LOOPS):
        p.sizes[i] = 1
        p.moving[i] = FIRST_MOVES | SECOND_MOVES
    for i in range(ndim - 1, -1, -1):
        a_size = a_dims[i - ndim + a_ndim] if i >= ndim - a_ndim else 1
        b_size = b_dims[i - ndim + b_ndim] if i >= ndim - b_ndim else 1
        if a_size != b_size and a_size != 1 and b_size != 1:
            return -1
        size = b_size if a_size == 1 else a_size
        dims[i] = size
        if size == 1:
            continue
        moving = (FIRST_MOVES if a_size == size else 0) | (SECOND_MOVES if b_size == size else 0)
        if loop < 0 or p.moving[loop] != moving:
            loop += 1
            if loop == N_LOOPS:
                return -1
            p.moving[loop] = moving
        p.sizes[loop] *= size
    a_size = b_size = 1
    for i in range(N_LOOPS):
        p.a_steps[i] = a_size if p.moving[i] & FIRST_MOVES else 0
        p.b_steps[i] = b_size if p.moving[i] & SECOND_MOVES else 0
        if p.moving[i] & FIRST_MOVES:
            a_size *= p.sizes[i]
        if p.moving[i] & SECOND_MOVES:
            b_size *= p.sizes[i]
    return ndim


cdef void broadcast_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Broadcast* p = <Broadcast*>job
    cdef Py_ssize_t n = p.sizes[0], n_rows = p.sizes[1] * p.sizes[2], row, start, middle, outer
    if n_rows == 1:
        start = start_of(share, n_shares, n)
        n = start_of(share + 1, n_shares, n) - start
        if n > 0:
            binary_row(p.op, p.a + start * p.a_steps[0], p.b + start * p.b_steps[0], p.out + start * p.out_step, n,
                       p.moving[0])
        return
    if n == 0 or n_rows == 0:
        return
    row = start_of(share, n_shares, n_rows)
    middle, outer = row % p.sizes[1], row // p.sizes[1]
    for row in range(row, start_of(share + 1, n_shares, n_rows)):
        binary_row(p.op, p.a + outer * p.a_steps[2] + middle * p.a_steps[1],
                   p.b + outer * p.b_steps[2] + middle * p.b_steps[1], p.out + row * n * p.out_step, n, p.moving[0])
        middle += 1
        if middle == p.sizes[1]:
            middle = 0
            outer += 1
