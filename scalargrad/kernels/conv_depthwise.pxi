# Depthwise convolution: each output channel sees one input channel, so that a convolution is as many small ones as
# there are planes. Neighbouring pixels are in the lanes, read from the image as it lies: columns outside it are masked,
# rows outside it left out. There is no padded copy, which cost as much as the sums (MobileNet's 32 × 112 × 112, 3 × 3:
# 50 GF/s with it, 120 without).
#
# For the usual kernel, 3 × 3 without dilation, a tile is PLANE_ROWS rows of outputs by one vector, and an input vector
# is loaded once for all the outputs that see it.

cdef extern from *:
    """
    /* Which lanes of a vector there are: first <= l < last. A load gives 0 for the others, and reads nothing there. */
    #if VBYTES == 64
    typedef uint16_t lanes_t;
    #define LANES_FROM(first, last) ((lanes_t)(((1u << (last)) - 1u) & ~((1u << (first)) - 1u)))
    #if REALSZ == 4
    #define VLOAD_LANES(p, lanes) ((vec)_mm512_maskz_loadu_ps((__mmask16)(lanes), (p)))
    #else
    #define VLOAD_LANES(p, lanes) ((vec)_mm512_maskz_loadu_pd((__mmask8)(lanes), (p)))
    #endif
    #elif VBYTES == 32
    typedef ireal lanes_t __attribute__((vector_size(VBYTES), aligned(REALSZ), may_alias));
    #define LANES_FROM(first, last) (((ivec){LANES} >= (ireal)(first)) & ((ivec){LANES} < (ireal)(last)))
    #if REALSZ == 4
    #define VLOAD_LANES(p, lanes) ((vec)_mm256_maskload_ps((p), (__m256i)(ivec)(lanes)))
    #else
    #define VLOAD_LANES(p, lanes) ((vec)_mm256_maskload_pd((p), (__m256i)(ivec)(lanes)))
    #endif
    #else
    typedef struct { int first, last; } lanes_t;
    #define LANES_FROM(first, last) ((lanes_t){(int)(first), (int)(last)})
    static inline vec VLOAD_LANES(const real* p, lanes_t lanes) {
        vec x = VZERO;
        for (int i = lanes.first; i < lanes.last; i++) x[i] = p[i];
        return x;
    }
    #endif
    /* Every stride-th number, first <= lane < last. */
    static inline vec STRIDED(const real* p, Py_ssize_t stride, int first, int last) {
        vec x = VZERO;
        for (int i = first; i < last; i++) x[i] = p[i * stride];
        return x;
    }

    /* A tile of 7 rows, what all of the usual sizes are multiples of, and 9 weights take half of 32 registers. */
    #if defined(__AVX512F__) || defined(__aarch64__)
    enum { PLANE_ROWS = 7 };
    #define PLANE_CASE_OF_7(tile, stride, cut, ...) PLANE_CASE(tile, 7, stride, cut, __VA_ARGS__)
    #else
    enum { PLANE_ROWS = 4 };
    #define PLANE_CASE_OF_7(tile, stride, cut, ...)
    #endif
    #define PLANE_CASE(tile, m, stride, cut, ...) \
        case 32 * stride + 8 * cut + m: tile(m, stride, cut, __VA_ARGS__); break;
    #define PLANE_CASES(tile, stride, cut, ...) \
        PLANE_CASE(tile, 1, stride, cut, __VA_ARGS__) PLANE_CASE(tile, 2, stride, cut, __VA_ARGS__) \
        PLANE_CASE(tile, 3, stride, cut, __VA_ARGS__) PLANE_CASE(tile, 4, stride, cut, __VA_ARGS__) \
        PLANE_CASE_OF_7(tile, stride, cut, __VA_ARGS__)
    /* How a vector of outputs finds its inputs: all of them there; some; some, and all within one vector. */
    enum { WHOLE = 0, CUT = 1, CUT_TO_ONE = 2 };
    /* tile(m, stride, cut, ...) with the three as constants, for m of 1 to 4 and PLANE_ROWS, and stride 1 or 2. */
    #define WITH_CONSTANT_PLANE(tile, m, stride, cut, ...) switch (32 * (stride) + 8 * (cut) + (m)) { \
        PLANE_CASES(tile, 1, 0, __VA_ARGS__) PLANE_CASES(tile, 1, 1, __VA_ARGS__) \
        PLANE_CASES(tile, 2, 0, __VA_ARGS__) PLANE_CASES(tile, 2, 1, __VA_ARGS__) \
        PLANE_CASES(tile, 2, 2, __VA_ARGS__) }
    """
    enum: PLANE_ROWS, WHOLE, CUT, CUT_TO_ONE
    ctypedef int lanes_t
    lanes_t LANES_FROM(Py_ssize_t first, Py_ssize_t last) nogil
    vec VLOAD_LANES(const real* p, lanes_t lanes) nogil
    vec STRIDED(const real* p, Py_ssize_t stride, int first, int last) nogil

cdef struct Lanes:
    # Of the lanes of a vector of outputs, those that a tap's input column is inside the image for; and of the vectors
    # that they are loaded from, two where the stride is 2.
    int first, last
    lanes_t low, high

ctypedef void (*plane_tile_t)(
    int, int, int, const real* const*, Py_ssize_t, const Lanes*, const real*, real, bint, real*, Py_ssize_t, int,
    Py_ssize_t,
) noexcept nogil
ctypedef void (*plane_weight_tile_t)(
    int, int, int, const real* const*, Py_ssize_t, const Lanes*, const real*, Py_ssize_t, int, real*, Py_ssize_t,
) noexcept nogil

cdef extern from *:
    void plane_tiles "WITH_CONSTANT_PLANE" (plane_tile_t tile, int m, int stride, int cut, ...) nogil
    void plane_weight_tiles "WITH_CONSTANT_PLANE" (plane_weight_tile_t tile, int m, int stride, int cut, ...) nogil

cdef struct PixelColumns:
    # A row of outputs in vectors. Those from `first_whole` up to `last_whole` are inside the image under every tap.
    Py_ssize_t n_vectors, first_whole, last_whole
    int cut             # how the others find their inputs
    Lanes* spans         # (vector, tap)

cdef struct Planes:
    # y[p][q] = bias + Σ w[r][s] · x[p·stride + r·dilation − padding][...], plane by plane. Padding may be negative.
    Conv conv
    PixelColumns columns
    const real* x
    const real* w
    const real* bias
    bint relu
    real* y
    # Where the weights' gradient is wanted, which is then y: the outputs' gradient, and partial sums of each share.
    const real* g
    real* sums
    const real* zeros  # a row of the image, for those above and below it


cdef inline vec load_lanes(int stride, int cut, const real* p, const Lanes* span) noexcept nogil:
    """Every stride-th number from p on, for a stride of 1 or 2."""
    if stride == 1:
        return VLOAD_LANES(p, span.low) if cut else (<const uvec*>p)[0]
    if cut == CUT_TO_ONE:
        return EVENS(VLOAD_LANES(p, span.low), VZERO)
    if cut:
        return EVENS(VLOAD_LANES(p, span.low), VLOAD_LANES(p + VL, span.high))
    return EVENS((<const uvec*>p)[0], (<const uvec*>(p + VL))[0])


cdef inline void plane_tile(
    int m, int stride, int cut, const real* const* rows, Py_ssize_t at, const Lanes* spans, const real* w, real bias,
    bint relu, real* y, Py_ssize_t y_row, int n_lanes, Py_ssize_t n_vectors,
) noexcept nogil:
    """m rows of outputs under a 3 × 3 kernel, vector after vector. They see (m − 1)·stride + 3 `rows` of the image.

    Of a vector that is `cut`, `n_lanes` are stored.
    """
    cdef vec[7] sums
    cdef Py_ssize_t v
    cdef int r, s, i
    for v in range(n_vectors):
        for i in range(m):
            sums[i] = VSET1(bias)
        # Most of these loads are of what was loaded for the row before: the compiler sees it.
        for s in range(3):
            for r in range(3):
                for i in range(m):
                    sums[i] += w[r * 3 + s] * load_lanes(stride, cut, rows[i * stride + r] + at + s, spans + s)
        if relu:
            for i in range(m):
                sums[i] = VANDNOT(sums[i], VLESS0(sums[i]))
        for i in range(m):
            if cut:
                VSTOREN(y + i * y_row, sums[i], n_lanes)
            else:
                (<uvec*>(y + i * y_row))[0] = sums[i]
        at += VL * stride
        y += VL


cdef Lanes span_of(Py_ssize_t first, Py_ssize_t last, Py_ssize_t stride) noexcept nogil:
    cdef Lanes span
    span.last = <int>last
    span.first = <int>min(first, last)
    span.low = LANES_FROM(span.first, span.last)
    span.high = LANES_FROM(0, 0)
    if stride == 2 and span.first < span.last:
        first = 2 * span.first
        last = 2 * span.last - 1
        span.low = LANES_FROM(min(first, VL), min(last, VL))
        span.high = LANES_FROM(max(first - VL, 0), max(last - VL, 0))
    return span


cdef void lay_columns(Conv* v, PixelColumns* c) noexcept nogil:
    cdef Py_ssize_t i, s, column, first, last, n_lanes
    cdef bint whole
    c.first_whole = c.last_whole = 0
    # 14 columns to 7: loads of two vectors, of which the second is empty, cost a quarter of the time.
    c.cut = CUT_TO_ONE if v.stride[1] == 2 and c.n_vectors == 1 and 2 * v.Q <= VL + 1 else CUT
    for i in range(c.n_vectors):
        n_lanes = min(v.Q - i * VL, VL)
        whole = n_lanes == VL
        for s in range(v.S):
            # Lane l sees column + l·stride.
            column = i * VL * v.stride[1] + s * v.dilation[1] - v.padding[1]
            first = ceil_div(-column, v.stride[1]) if column < 0 else 0
            last = (v.W - 1 - column) // v.stride[1] + 1 if column < v.W else 0
            c.spans[i * v.S + s] = span_of(min(first, n_lanes), min(last, n_lanes), v.stride[1])
            # With a stride the load goes on to the next output's number.
            whole = whole and column >= 0 and column + VL * v.stride[1] <= v.W
        if whole:
            c.first_whole = c.first_whole if c.last_whole else i
            c.last_whole = i + 1
    if c.last_whole == 0:
        c.first_whole = c.last_whole = c.n_vectors


cdef inline bint is_depthwise(Conv* v) noexcept nogil:
    return v.C == 1 and v.O == 1 and v.groups > 1


cdef inline bint is_small(Conv* v) noexcept nogil:
    return (
        v.R == 3 and v.S == 3 and v.dilation[0] == 1 and v.dilation[1] == 1 and v.stride[0] == v.stride[1]
        and v.stride[0] <= 2
    )


cdef inline int next_band(Planes* j, Py_ssize_t p, const real* x, const real** rows) noexcept nogil:
    """How many rows of outputs to take from p on, and the rows of the image that they see."""
    cdef Conv* v = &j.conv
    cdef Py_ssize_t h = p * v.stride[0] - v.padding[0], left = v.P - p
    cdef int i, m = PLANE_ROWS
    if left < PLANE_ROWS:
        m = <int>(left if left <= 4 else (left + 1) // 2)
    elif left < 2 * PLANE_ROWS and PLANE_ROWS == 4:
        m = <int>(left + 1) // 2
    for i in range((m - 1) * <int>v.stride[0] + 3):
        rows[i] = (x + h * v.W if 0 <= h < v.H else j.zeros) - v.padding[1]
        h += 1
    return m


cdef void correlate_plane(Planes* j, const real* x, const real* w, real bias, real* y) noexcept nogil:
    """One plane under a 3 × 3 kernel."""
    cdef Conv* v = &j.conv
    cdef PixelColumns* c = &j.columns
    cdef const real* rows[2 * PLANE_ROWS + 1]
    cdef Py_ssize_t p = 0, q
    cdef int m, stride = <int>v.stride[0]
    while p < v.P:
        m = next_band(j, p, x, rows)
        q = 0
        while q < c.n_vectors:
            if c.first_whole <= q < c.last_whole:
                plane_tiles(plane_tile, m, stride, WHOLE, rows, q * VL * stride, c.spans, w, bias, j.relu,
                            y + p * v.Q + q * VL, v.Q, VL, c.last_whole - q)
                q = c.last_whole
            else:
                plane_tiles(plane_tile, m, stride, c.cut, rows, q * VL * stride, c.spans + 3 * q, w, bias, j.relu,
                            y + p * v.Q + q * VL, v.Q, <int>min(v.Q - q * VL, VL), 1)
                q += 1
        p += m


cdef inline vec load_any(Py_ssize_t stride, const real* p, const Lanes* span) noexcept nogil:
    return VLOAD_LANES(p, span.low) if stride == 1 else STRIDED(p, stride, span.first, span.last)


cdef void correlate_plane_of_any_kernel(Planes* j, const real* x, const real* w, real bias, real* y) noexcept nogil:
    cdef Conv* v = &j.conv
    cdef Py_ssize_t p, q, r, s, h
    cdef const real* x_row
    cdef vec total
    for p in range(v.P):
        for q in range(j.columns.n_vectors):
            total = VSET1(bias)
            for r in range(v.R):
                h = p * v.stride[0] + r * v.dilation[0] - v.padding[0]
                if h < 0 or h >= v.H:
                    continue
                x_row = x + h * v.W + q * VL * v.stride[1] - v.padding[1]
                for s in range(v.S):
                    total += w[r * v.S + s] * load_any(v.stride[1], x_row + s * v.dilation[1],
                                                       j.columns.spans + q * v.S + s)
            if j.relu:
                total = VANDNOT(total, VLESS0(total))
            VSTOREN(y + p * v.Q + q * VL, total, min(v.Q - q * VL, VL))


cdef void planes_worker(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil:
    cdef Planes* j = <Planes*>job
    cdef Conv* v = &j.conv
    cdef Py_ssize_t plane, channel = start_of(share, n_shares, v.N * v.groups) % v.groups - 1
    cdef const real* x
    cdef const real* w
    cdef real bias
    cdef real* y
    for plane in range(start_of(share, n_shares, v.N * v.groups), start_of(share + 1, n_shares, v.N * v.groups)):
        channel = channel + 1 if channel + 1 < v.groups else 0
        bias = j.bias[channel] if j.bias != NULL else 0
        x = j.x + plane * v.H * v.W
        w = j.w + channel * v.R * v.S
        y = j.y + plane * v.P * v.Q
        if plane + 1 < v.N * v.groups:
            fetch_planes(x + v.H * v.W, v.H * v.W)
        if is_small(v):
            correlate_plane(j, x, w, bias, y)
        else:
            correlate_plane_of_any_kernel(j, x, w, bias, y)


cdef void* lay_planes(Planes* j, Py_ssize_t n_sums) noexcept nogil:
    """Tables, a row of zeros and room for sums, in one piece of memory, or NULL."""
    cdef Conv* v = &j.conv
    cdef Py_ssize_t n_span_bytes, n_zero_bytes = lines(v.W + VL, sizeof(real))
    cdef void* memory
    j.columns.n_vectors = ceil_div(v.Q, VL)
    n_span_bytes = lines(j.columns.n_vectors * v.S, sizeof(Lanes))
    memory = take_scratch(n_span_bytes + n_zero_bytes + n_sums * sizeof(real) + 64)
    if memory == NULL:
        return NULL
    j.columns.spans = <Lanes*>on_a_line(memory)
    j.zeros = <const real*>(on_a_line(memory) + n_span_bytes)
    j.sums = <real*>(on_a_line(memory) + n_span_bytes + n_zero_bytes)
    memset(<void*>j.zeros, 0, n_zero_bytes)
    lay_columns(v, &j.columns)
    return memory


cdef double plane_flop(Conv* v) noexcept nogil:
    return 2.0 * v.N * v.groups * v.P * v.Q * v.R * v.S


cdef int correlate_planes(Conv* conv, const real* x, const real* w, const real* bias, bint relu,
                          real* y) noexcept nogil:
    """-1 where there is no memory for the tables."""
    cdef Planes j
    cdef void* memory
    j.conv = conv[0]
    j.x = x
    j.w = w
    j.bias = bias
    j.relu = relu
    j.y = y
    memory = lay_planes(&j, 0)
    if memory == NULL:
        return -1
    run(planes_worker, &j, shares_of(plane_flop(conv), conv.N * conv.groups))
    give_scratch(memory)
    return 0
