# The optimisers' loops: every array is read once and written once. Formulas as in `plain_optim`.
#
# They are loops over numbers, which the compiler turns into vectors. It does so only where no loop asks about an option
# and nothing overlaps: adam_step on LeNet's 81,194 parameters took 207 us with the options in the loop and takes 20 us
# with a loop for each. A multiply-add is fused or not by where a number stands in its vector, so shares of the work
# begin at whole blocks, and the same bits come out for any number of them.

cdef extern from *:
    """
    typedef real* __restrict unaliased;
    typedef const real* __restrict source;

    /* loop(options, ...) with the options as a constant. */
    #define OPTIONS_CASE(loop, options, ...) case options: loop(options, __VA_ARGS__); break;
    #define WITH_CONSTANT_OPTIONS(loop, options, ...) switch (options) { \\
        OPTIONS_CASE(loop, 0, __VA_ARGS__) OPTIONS_CASE(loop, 1, __VA_ARGS__) \\
        OPTIONS_CASE(loop, 2, __VA_ARGS__) OPTIONS_CASE(loop, 3, __VA_ARGS__) \\
        OPTIONS_CASE(loop, 4, __VA_ARGS__) OPTIONS_CASE(loop, 5, __VA_ARGS__) \\
        OPTIONS_CASE(loop, 6, __VA_ARGS__) OPTIONS_CASE(loop, 7, __VA_ARGS__) }

    /* NaN stays, as it does in NumPy's maximum. */
    static CYTHON_INLINE real larger(real kept, real next) { return kept > next || kept != kept ? kept : next; }
    """
    ctypedef real* unaliased
    ctypedef const real* source
    real larger(real kept, real next) nogil

cdef enum:
    MAX_STATES = 3
    BLOCK = 1024  # numbers: a share of a parameter is whole blocks
    # Options. Each loop knows at most three.
    DECAYS = 1  # the gradient gets weight_decay * p
    FIRST = 2
    NESTEROV = 4
    AMSGRAD = 2
    SHRINKS = 4  # p is decayed by itself
    CENTERED = 2
    HAS_BUFFER = 4

cdef struct Parameter:
    Py_ssize_t n
    real* p
    const real* g
    real* state[MAX_STATES]  # NULL where an optimiser runs without
    bint first  # momentum: the buffer holds nothing yet
    real step_size, root_correction  # Adam: lr / (1 - beta1^t), sqrt(1 - beta2^t)

# Of these an optimiser sets what its formula has.
cdef struct Coefficients:
    real sign  # -1 where the aim is a maximum
    real lr, weight_decay, momentum, undampened, alpha, eps, to_m, beta2, to_v, shrink

cdef struct Step:
    Parameter* all
    Py_ssize_t n
    int options
    Coefficients c


ctypedef void (*sgd_loop_t)(int, Py_ssize_t, unaliased, source, const Coefficients*) noexcept nogil
ctypedef void (*momentum_loop_t)(int, Py_ssize_t, unaliased, source, unaliased, const Coefficients*) noexcept nogil
ctypedef void (*adam_loop_t)(
    int, Py_ssize_t, unaliased, source, unaliased, unaliased, unaliased, const Coefficients*, real, real,
) noexcept nogil
ctypedef void (*rmsprop_loop_t)(
    int, Py_ssize_t, unaliased, source, unaliased, unaliased, unaliased, const Coefficients*,
) noexcept nogil

cdef extern from *:
    void sgd_loops "WITH_CONSTANT_OPTIONS" (sgd_loop_t loop, int options, ...) nogil
    void momentum_loops "WITH_CONSTANT_OPTIONS" (momentum_loop_t loop, int options, ...) nogil
    void adam_loops "WITH_CONSTANT_OPTIONS" (adam_loop_t loop, int options, ...) nogil
    void rmsprop_loops "WITH_CONSTANT_OPTIONS" (rmsprop_loop_t loop, int options, ...) nogil


cdef inline real descent(int options, real p, real g, const Coefficients* c) noexcept nogil:
    """±g + weight_decay·p. A decay of 0 is left out: 0 times an infinite weight would be NaN."""
    return c.sign * g + c.weight_decay * p if options & DECAYS else c.sign * g


cdef inline void sgd_loop(int options, Py_ssize_t n, unaliased p, source g, const Coefficients* c) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        p[i] -= c.lr * descent(options, p[i], g[i], c)


cdef inline void momentum_loop(int options, Py_ssize_t n, unaliased p, source g, unaliased buffer,
                               const Coefficients* c) noexcept nogil:
    cdef Py_ssize_t i
    cdef real d, b
    for i in range(n):
        d = descent(options, p[i], g[i], c)
        b = d if options & FIRST else c.momentum * buffer[i] + c.undampened * d
        buffer[i] = b
        p[i] -= c.lr * (d + c.momentum * b if options & NESTEROV else b)


cdef inline void adam_loop(int options, Py_ssize_t n, unaliased p, source g, unaliased m, unaliased v, unaliased v_max,
                           const Coefficients* c, real step_size, real root_correction) noexcept nogil:
    cdef Py_ssize_t i
    cdef real d, mean, top
    for i in range(n):
        d = descent(options, p[i], g[i], c)
        mean = m[i] + c.to_m * (d - m[i])
        m[i] = mean
        top = c.beta2 * v[i] + c.to_v * (d * d)
        v[i] = top
        if options & AMSGRAD:
            top = larger(v_max[i], top)
            v_max[i] = top
        d = step_size * mean / (SQRT(top) / root_correction + c.eps)
        p[i] = (c.shrink * p[i] if options & SHRINKS else p[i]) - d


cdef inline void rmsprop_loop(int options, Py_ssize_t n, unaliased p, source g, unaliased v, unaliased mean, unaliased buffer,
                              const Coefficients* c) noexcept nogil:
    cdef Py_ssize_t i
    cdef real d, square, average
    for i in range(n):
        d = descent(options, p[i], g[i], c)
        square = c.alpha * v[i] + c.to_v * (d * d)
        v[i] = square
        if options & CENTERED:
            average = mean[i] + c.to_v * (d - mean[i])
            mean[i] = average
            square -= average * average
        d = d / (SQRT(square) + c.eps)
        if options & HAS_BUFFER:
            d = c.momentum * buffer[i] + d
            buffer[i] = d
        p[i] -= c.lr * d


cdef inline Py_ssize_t share_of(const Parameter* t, Py_ssize_t share, Py_ssize_t n_shares,
                                Py_ssize_t* start) noexcept nogil:
    """How many of a parameter's numbers a share has, and where they begin."""
    cdef Py_ssize_t n_blocks = (t.n + BLOCK - 1) // BLOCK, end
    start[0] = start_of(share, n_shares, n_blocks) * BLOCK
    end = start_of(share + 1, n_shares, n_blocks) * BLOCK
    return (end if end < t.n else t.n) - start[0]


cdef void sgd_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Step* s = <Step*>job
    cdef Parameter* t
    cdef Py_ssize_t i, n, at
    for i in range(s.n):
        t = &s.all[i]
        n = share_of(t, share, n_shares, &at)
        if t.state[0] == NULL:
            sgd_loops(sgd_loop, s.options, n, t.p + at, t.g + at, &s.c)
        else:
            momentum_loops(momentum_loop, s.options | (FIRST if t.first else 0), n, t.p + at, t.g + at,
                           t.state[0] + at, &s.c)


cdef void adam_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Step* s = <Step*>job
    cdef Parameter* t
    cdef Py_ssize_t i, n, at
    for i in range(s.n):
        t = &s.all[i]
        n = share_of(t, share, n_shares, &at)
        adam_loops(adam_loop, s.options, n, t.p + at, t.g + at, t.state[0] + at, t.state[1] + at,
                   <real*>after(t.state[2], at), &s.c, t.step_size, t.root_correction)


cdef void rmsprop_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Step* s = <Step*>job
    cdef Parameter* t
    cdef Py_ssize_t i, n, at
    for i in range(s.n):
        t = &s.all[i]
        n = share_of(t, share, n_shares, &at)
        rmsprop_loops(rmsprop_loop, s.options, n, t.p + at, t.g + at, t.state[0] + at,
                      <real*>after(t.state[1], at), <real*>after(t.state[2], at), &s.c)
