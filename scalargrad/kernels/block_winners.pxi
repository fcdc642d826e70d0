# The gradients of convolution, relu and 2 × 2 max pooling from the winners alone. Of the convolution's outputs one in
# four has a gradient, and the products with the others' zeros are left out here. So images and weights must be finite:
# 0 times infinity is NaN. What is not goes the way of block.pxi, where every zero is multiplied.
#
# LeNet's blocks at batch 64, float32, AVX-512, one thread: the first one's weights took 105 us with the zeros and take
# 37 without them; all gradients of the second 237 and 142.

cdef extern from *:
    """
    /* Of 16 numbers those that the lanes name. */
    #if VBYTES == 64 && REALSZ == 4
    #define PICK(p, i) ((vec)_mm512_permutexvar_ps((__m512i)(i), _mm512_loadu_ps(p)))
    #elif VBYTES == 64
    #define PICK(p, i) ((vec)_mm512_permutex2var_pd(_mm512_loadu_pd(p), (__m512i)(i), _mm512_loadu_pd((p) + 8)))
    #else
    static inline vec PICK(const real* p, ivec i) {
        vec x = VZERO;
        for (int l = 0; l < VLEN; l++) x[l] = p[i[l]];
        return x;
    }
    #endif
    enum { PICKS_FAST = VBYTES == 64 };

    typedef REAL pair __attribute__((vector_size(2 * REALSZ), aligned(REALSZ), may_alias));
    typedef REAL quad __attribute__((vector_size(4 * REALSZ)));
    typedef REAL uquad __attribute__((vector_size(4 * REALSZ), aligned(REALSZ), may_alias));
    typedef ireal iquad __attribute__((vector_size(4 * REALSZ)));
    #define QUAD_ZERO ((quad){0})
    #if defined(__clang__) || __GNUC__ >= 12
    #define QUAD_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
    #else
    #define QUAD_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (iquad){__VA_ARGS__})
    #endif
    #define LEFT_PAIRS(a, b)  QUAD_SHUFFLE(a, b, 0, 1, 4, 5)
    #define RIGHT_PAIRS(a, b) QUAD_SHUFFLE(a, b, 2, 3, 6, 7)
    """
    vec PICK(const real*, ivec) nogil
    enum: PICKS_FAST
    ctypedef float pair
    ctypedef float quad
    ctypedef float uquad
    quad QUAD_ZERO
    quad LEFT_PAIRS(quad, quad) nogil
    quad RIGHT_PAIRS(quad, quad) nogil

cdef enum:
    PATCH = 16                    # pixels under the four 3 × 3 windows of a convolution that one pooling window holds
    SHIFTED_WEIGHT_BYTES = 32768  # of the weights in all four positions, which must stay in the first cache

ctypedef void (*winner_tile_t)(
    int, int, Py_ssize_t, const real*, const ireal*, Py_ssize_t, const real*, Py_ssize_t, real*, Py_ssize_t, Py_ssize_t,
) noexcept nogil

cdef extern from *:
    void winner_tiles "WITH_CONSTANT_SIZES" (winner_tile_t tile, int m, int n, ...) nogil

cdef bint are_finite(const real* x, Py_ssize_t n) noexcept nogil:
    cdef vec a = VZERO, b = VZERO, zero = VZERO
    cdef Py_ssize_t i = 0
    while i + 2 * VL <= n:
        a += zero * (<const uvec*>(x + i))[0]
        b += zero * (<const uvec*>(x + i + VL))[0]
        i += 2 * VL
    while i < n:
        a += zero * VLOADN(x + i, min(n - i, VL))
        i += VL
    return VSUM(a + b) == 0


cdef inline ivec code_of(const u8* offsets, Py_ssize_t n) noexcept nogil:
    return FROM_BYTES((<const u8vec*>offsets)[0]) if n >= VL else FROM_BYTES(LOAD_BYTES(offsets, n))


cdef inline vec gradient_of(const real* g, ivec code, Py_ssize_t n) noexcept nogil:
    """The gradients of windows that have a winner; 0 for the rest."""
    return VAND((<const uvec*>g)[0] if n >= VL else VLOADN(g, n), IEQUAL(code & ISET1(~3), 0))


cdef void gather_winners(Winners* j, const real* g, const u8* offsets, Py_ssize_t down, Py_ssize_t right, real* g_ow,
                         ireal* at_ow) noexcept nogil:
    """(O, width): each window's gradient, and where its winner is with entries `right` and rows `down` apart."""
    cdef Py_ssize_t o, q, n_windows = j.P * j.Q
    cdef ivec code
    for o in range(j.O):
        q = 0
        while q < n_windows:
            code = code_of(offsets + q, n_windows - q)
            (<uvec*>(g_ow + q))[0] = gradient_of(g + q, code, n_windows - q)
            (<uivec*>(at_ow + q))[0] = (-((code >> 1) & ISET1(1)) & ISET1(<int>down)) + (
                -(code & ISET1(1)) & ISET1(<int>right)
            )
            q += VL
        g += n_windows
        offsets += n_windows
        g_ow += j.width
        at_ow += j.width


# To the image: what a window sends back to a channel is a patch, the sum over the output channels of the gradient times
# the weights in the winner's position. The patches overlap, and are added up.

cdef bint sends_back_patches(Winners* j) noexcept nogil:
    """Whether the weights in all positions stay in the first cache. Lays the patches."""
    j.patch_row = 2 * ((j.S + 2) // 2)
    j.patch = up((j.R + 1) * j.patch_row)
    return 4.0 * j.O * j.C * j.patch * sizeof(real) <= SHIFTED_WEIGHT_BYTES


cdef void shift_weights(Winners* j, const real* w) noexcept nogil:
    cdef Py_ssize_t o, code, c, r, s
    cdef real* at = j.shifted
    memset(at, 0, 4 * j.O * j.C * j.patch * sizeof(real))
    for o in range(j.O):
        for code in range(4):
            for c in range(j.C):
                for r in range(j.R):
                    for s in range(j.S):
                        at[(r + code // 2) * j.patch_row + s + code % 2] = w[((o * j.C + c) * j.R + r) * j.S + s]
                at += j.patch


cdef inline void winner_tile(
    int m, int n, Py_ssize_t O, const real* g, const ireal* at, Py_ssize_t g_row, const real* shifted,
    Py_ssize_t shifted_row, real* patches, Py_ssize_t patches_row, Py_ssize_t n_blocks,
) noexcept nogil:
    """n vectors of the patches of n_blocks·m windows."""
    cdef vec[24] sums
    cdef const real* w
    cdef const real* shifted_o
    cdef real s
    cdef Py_ssize_t block, o
    cdef int i, k
    for block in range(n_blocks):
        for i in range(m * n):
            sums[i] = VZERO
        shifted_o = shifted
        for o in range(O):
            for i in range(m):
                s = g[o * g_row + i]
                w = shifted_o + at[o * g_row + i]
                for k in range(n):
                    sums[i * n + k] += s * (<const uvec*>(w + k * VL))[0]
            shifted_o += shifted_row
        for i in range(m):
            for k in range(n):
                (<uvec*>(patches + i * patches_row + k * VL))[0] = sums[i * n + k]
        g += m
        at += m
        patches += m * patches_row


cdef inline void add_patches(int m, int n, Winners* j, const real* patches, Py_ssize_t patches_row,
                             real* frame) noexcept nogil:
    """One channel's patches, each two columns from the last. By pairs of columns, so that a sum that was just stored is
    loaded as it was stored."""
    cdef Py_ssize_t p, q
    cdef int i, k
    cdef real* to
    cdef const real* here
    memset(frame, 0, j.frame_plane * sizeof(real))
    for p in range(j.P):
        for q in range(j.Q):
            to = frame + 2 * p * j.frame_row + 2 * q
            here = patches
            for i in range(m):
                for k in range(n):
                    (<pair*>(to + 2 * k))[0] = (<pair*>(to + 2 * k))[0] + (<const pair*>(here + 2 * k))[0]
                to += j.frame_row
                here += j.patch_row
            patches += patches_row


cdef inline void add_row_of_patches(Winners* j, const real* upper, const real* lower, Py_ssize_t patches_row,
                                    real* row) noexcept nogil:
    """One row under 3 × 3 weights: of each patch four numbers, from one row of windows or from two."""
    cdef quad before = QUAD_ZERO, here
    cdef quad after
    cdef Py_ssize_t q = 0
    while q + 2 <= j.Q:
        here = (<const uquad*>upper)[0]
        after = (<const uquad*>(upper + patches_row))[0]
        if lower != NULL:
            here += (<const uquad*>lower)[0]
            after += (<const uquad*>(lower + patches_row))[0]
            lower += 2 * patches_row
        upper += 2 * patches_row
        (<uquad*>row)[0] = LEFT_PAIRS(here, after) + RIGHT_PAIRS(before, here)
        before = after
        row += 4
        q += 2
    after = QUAD_ZERO
    if q < j.Q:
        after = (<const uquad*>upper)[0]
        if lower != NULL:
            after += (<const uquad*>lower)[0]
        (<uquad*>row)[0] = LEFT_PAIRS(after, QUAD_ZERO) + RIGHT_PAIRS(before, after)
    else:
        row[0] = (<const real*>&before)[2]
        row[1] = (<const real*>&before)[3]


cdef void add_patches_3x3(Winners* j, Py_ssize_t W, Py_ssize_t n_rows, const real* patches, Py_ssize_t patches_row,
                          real* plane) noexcept nogil:
    """The same for 3 × 3 weights, each number stored once, in rows of W, the last of which may be under no patch."""
    cdef Py_ssize_t p, a, i, columns = 2 * j.Q + 2, row_of_windows = j.Q * patches_row
    cdef const real* here
    for p in range(j.P + 1):
        here = patches + p * row_of_windows
        for a in range(2):
            if p == 0:
                add_row_of_patches(j, here + 4 * a, NULL, patches_row, plane)
            elif p == j.P:
                add_row_of_patches(j, here - row_of_windows + 8 + 4 * a, NULL, patches_row, plane)
            else:
                add_row_of_patches(j, here + 4 * a, here - row_of_windows + 8 + 4 * a, patches_row, plane)
            for i in range(columns, W):
                plane[i] = 0
            plane += W
    memset(plane, 0, (n_rows - 2 * j.P - 2) * W * sizeof(real))


cdef void send_back_patches(Winners* j, Conv* v, const real* g_ow, const ireal* at_ow, real* patches, real* frame,
                            real* x_grad) noexcept nogil:
    """The gradient of one image, a few channels at a time: their weights and patches stay in the first cache."""
    cdef Py_ssize_t n_windows = j.P * j.Q, row = j.C * j.patch, vectors = j.patch // VL
    cdef Py_ssize_t at_once = max(1, 3 // vectors), first = 0, n_channels, k, width, size, n_larger, n_blocks, i, c, h
    cdef int n
    cdef const real* shown
    balanced(n_windows, &size, &n_larger, &n_blocks)
    i = n_larger * (size + 1)
    while first < j.C:
        n_channels = min(at_once, j.C - first)
        width = n_channels * j.patch
        k = 0
        while k < width:
            n = vectors_in(width - k)
            if n_larger:
                winner_tiles(winner_tile, <int>(size + 1), n, j.O, g_ow, at_ow, j.width,
                             j.shifted + first * j.patch + k, 4 * row, patches + k, width, n_larger)
            winner_tiles(winner_tile, <int>size, n, j.O, g_ow + i, at_ow + i, j.width,
                         j.shifted + first * j.patch + k, 4 * row, patches + i * width + k, width, n_blocks - n_larger)
            k += n * VL
        for c in range(n_channels):
            if j.R == 3 and j.S == 3 and v.padding[0] == 0 and v.padding[1] == 0:
                add_patches_3x3(j, v.W, v.H, patches + c * j.patch, width, x_grad)
                x_grad += v.H * v.W
                continue
            if j.R == 3 and j.S == 3:
                add_patches(4, 2, j, patches + c * j.patch, width, frame)
            else:
                add_patches(<int>j.R + 1, <int>j.patch_row // 2, j, patches + c * j.patch, width, frame)
            shown = frame + v.padding[0] * j.frame_row + v.padding[1]
            for h in range(v.H):
                memcpy(x_grad, shown, v.W * sizeof(real))
                x_grad += v.W
                shown += j.frame_row
        first += n_channels


# To 3 × 3 weights with output channels in the lanes: each lane picks the pixel that its winner saw out of the 4 × 4
# under the pooling window.

cdef void cut_patches(Winners* j, const real* seen, Py_ssize_t row, Py_ssize_t plane, real* patches) noexcept nogil:
    """(windows, C, 4, 4) of an image."""
    cdef Py_ssize_t p, q, c
    cdef Py_ssize_t a
    cdef const real* at
    cdef real* to
    for c in range(j.C):
        to = patches + c * PATCH
        for p in range(j.P):
            for q in range(j.Q):
                at = seen + c * plane + 2 * p * row + 2 * q
                for a in range(4):
                    memcpy(to + 4 * a, at + a * row, 4 * sizeof(real))
                to += j.C * PATCH


cdef inline void pick_tile(int n, Py_ssize_t n_windows, const real* patches, Py_ssize_t patches_row, const real* g,
                           const ireal* at, Py_ssize_t width, real* sums, Py_ssize_t n_vectors) noexcept nogil:
    """What all windows add to the weights of n channels in, by n_vectors of channels out."""
    cdef vec[27] here
    cdef vec g_here
    cdef ivec winner, pixel
    cdef Py_ssize_t vector, window
    cdef Py_ssize_t tap, c
    for vector in range(n_vectors):
        for c in range(n):
            for tap in range(9):
                here[c * 9 + tap] = (<uvec*>(sums + (c * 9 + tap) * width))[0]
        for window in range(n_windows):
            g_here = (<const uvec*>(g + window * width))[0]
            winner = (<const uivec*>(at + window * width))[0]
            for tap in range(9):
                pixel = winner + ISET1(<int>(tap // 3 * 4 + tap % 3))
                for c in range(n):
                    here[c * 9 + tap] += g_here * PICK(patches + window * patches_row + c * PATCH, pixel)
        for c in range(n):
            for tap in range(9):
                (<uvec*>(sums + (c * 9 + tap) * width))[0] = here[c * 9 + tap]
        g += VL
        at += VL
        sums += VL


cdef void add_picked(Winners* j, const real* patches, const real* g_ow, const ireal* at_ow, real* panels,
                     real* sums) noexcept nogil:
    """One image's part of the weights' gradient."""
    cdef Py_ssize_t n_windows = j.P * j.Q, o = 0, n, c, width, row = j.C * PATCH
    cdef real* winner_panel = panels + n_windows * PANEL
    cdef const ireal* at = <const ireal*>winner_panel
    cdef int n_vectors
    cdef real* sums_o
    while o < j.O:
        n_vectors = vectors_in(j.O - o)
        width = n_vectors * VL
        n = min(j.O - o, width)
        # Vectors of numbers travel as vectors of reals do: nothing calculates with them.
        transpose_to_panel(g_ow + o * j.width, j.width, n, n_windows, panels, width)
        transpose_to_panel(<const real*>at_ow + o * j.width, j.width, n, n_windows, winner_panel, width)
        c = 0
        while c < j.C:
            sums_o = sums + o * j.C * 9 + c * 9 * width
            if j.C - c >= 3:
                pick_tile(3, n_windows, patches + c * PATCH, row, panels, at, width, sums_o, n_vectors)
            elif j.C - c == 2:
                pick_tile(2, n_windows, patches + c * PATCH, row, panels, at, width, sums_o, n_vectors)
            else:
                pick_tile(1, n_windows, patches + c * PATCH, row, panels, at, width, sums_o, n_vectors)
            c += 3
        o += n


# To 3 × 3 weights with neighbouring windows in the lanes: the image's even and odd columns lie apart, and of a window's
# four entries the lane's winner is selected, first by column, then by row.

cdef void add_selected(Winners* j, const real* phases, const real* g_plane, const u8* plane, real* sums,
                       Py_ssize_t sums_row) noexcept nogil:
    """What one plane of windows adds to the weights between its channel and all of the image's."""
    cdef vec[9] here
    cdef vec[4] x
    cdef vec[3] upper
    cdef vec[3] lower
    cdef vec g_here
    cdef ivec code, right, down
    cdef Py_ssize_t c, p, q, n
    cdef Py_ssize_t tap, a, s
    cdef const real* even
    cdef const real* g
    cdef const u8* offsets
    for c in range(j.C):
        g = g_plane
        offsets = plane
        for tap in range(9):
            here[tap] = (<uvec*>(sums + tap * sums_row))[0]
        for p in range(j.P):
            q = 0
            while q < j.Q:
                n = j.Q - q
                code = code_of(offsets + q, n)
                g_here = gradient_of(g + q, code, n)
                right = -(code & ISET1(1))
                down = -((code >> 1) & ISET1(1))
                for a in range(4):
                    even = phases + 2 * a * j.phase_row + q
                    x[0] = (<const uvec*>even)[0]
                    x[1] = (<const uvec*>(even + j.phase_row))[0]
                    x[2] = (<const uvec*>(even + 1))[0]
                    x[3] = (<const uvec*>(even + j.phase_row + 1))[0]
                    for s in range(3):
                        lower[s] = VSELECT(right, x[s + 1], x[s])
                    if a > 0:
                        for s in range(3):
                            here[3 * (a - 1) + s] += g_here * VSELECT(down, lower[s], upper[s])
                    for s in range(3):
                        upper[s] = lower[s]
                q += VL
            g += j.Q
            offsets += j.Q
            phases += 4 * j.phase_row
        phases += 4 * j.phase_row
        for tap in range(9):
            (<uvec*>(sums + tap * sums_row))[0] = here[tap]
        sums += 9 * sums_row
