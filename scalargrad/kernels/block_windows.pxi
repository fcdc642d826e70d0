# Convolution and 2 × 2 pooling with neighbouring windows in the lanes: the image's even and odd columns lie apart, so
# that a window's four entries are four vectors, whose largest takes no shuffle, and need not be in memory at all.
# (LeNet's first block at batch 64, float32, AVX-512: 66 us by way of memory, 50 so.)

cdef struct Winners:
    # P × Q pooling windows of each of O planes, above an image of C channels framed in its padding.
    Py_ssize_t P, Q, O, C, R, S
    Py_ssize_t phase_row         # of an image taken apart by columns
    # Of the gradients (block_winners.pxi):
    Py_ssize_t width             # of a row of all windows, in whole vectors
    Py_ssize_t patch_row, patch  # what a window sends back to one channel: pitch of its rows, size in whole vectors
    Py_ssize_t frame_row, frame_plane
    real* shifted                # (O, 4, C, patch): weights where each of a window's entries puts them, zeros around

ctypedef void (*windows_tile_t)(
    int, Winners*, const real*, Py_ssize_t, const Py_ssize_t*, const real*, const real*, real*, u8*,
) noexcept nogil
ctypedef void (*window_row_tile_t)(
    int, Winners*, const real*, Py_ssize_t, Py_ssize_t, const Py_ssize_t*, const real*, vec, real*, ireal*,
) noexcept nogil

cdef extern from *:
    """
    /* Four sums for each output channel, or for each window, and what they are made of, in 32 registers or 16. */
    #if defined(__AVX512F__) || defined(__aarch64__)
    enum { FOURS = 6 };
    #else
    enum { FOURS = 2 };
    #endif
    #define WITH_CONSTANT_FOURS(tile, m, ...) switch (m) { \
        case 1: tile(1, __VA_ARGS__); break; case 2: tile(2, __VA_ARGS__); break; \
        case 3: tile(3, __VA_ARGS__); break; case 4: tile(4, __VA_ARGS__); break; \
        case 5: tile(5, __VA_ARGS__); break; case 6: tile(6, __VA_ARGS__); break; }
    """
    enum: FOURS
    void windows_tiles "WITH_CONSTANT_FOURS" (windows_tile_t tile, int m, ...) nogil
    void window_row_tiles "WITH_CONSTANT_FOURS" (window_row_tile_t tile, int m, ...) nogil


cdef bint fill_lanes(Winners* j) noexcept nogil:
    """Whether a row of windows fills lanes as well as the pixels under it do. Lays the image."""
    j.phase_row = up(j.Q) + up(j.S // 2 + 1)
    return 2 * ceil_div(j.Q, VL) <= ceil_div(2 * j.Q, VL)


cdef Py_ssize_t phases_size(Winners* j) noexcept nogil:
    return j.C * (2 * j.P + j.R - 1) * 2 * j.phase_row


cdef void take_columns_apart(Winners* j, const real* seen, Py_ssize_t row, Py_ssize_t plane,
                             real* phases) noexcept nogil:
    """(C, rows under windows, 2, phase_row)"""
    cdef Py_ssize_t c, h, q, n, columns = 2 * j.Q + j.S - 1
    cdef vec low, high
    cdef const real* at
    for c in range(j.C):
        for h in range(2 * j.P + j.R - 1):
            at = seen + c * plane + h * row
            q = 0
            while 2 * q < columns:
                n = columns - 2 * q
                low = VLOADN(at + 2 * q, min(n, VL))
                high = VLOADN(at + 2 * q + VL, min(n - VL, VL)) if n > VL else VZERO
                (<uvec*>(phases + q))[0] = EVENS(low, high)
                (<uvec*>(phases + j.phase_row + q))[0] = ODDS(low, high)
                q += VL
            phases += 2 * j.phase_row


cdef void fill_window_taps(Winners* j, Py_ssize_t* taps) noexcept nogil:
    """Of each tap, where a window's left entries see it and where the right ones do."""
    cdef Py_ssize_t c, r, s, at = 0, row
    for c in range(j.C):
        for r in range(j.R):
            row = (c * (2 * j.P + j.R - 1) + r) * 2 * j.phase_row
            for s in range(j.S):
                taps[at] = row + s % 2 * j.phase_row + s // 2
                taps[at + 1] = row + (s + 1) % 2 * j.phase_row + (s + 1) // 2
                at += 2


cdef inline void windows_tile(
    int m, Winners* j, const real* phases, Py_ssize_t K, const Py_ssize_t* taps, const real* w, const real* bias,
    real* y, u8* offsets,
) noexcept nogil:
    """Convolution, relu and pooling to m planes. The sums run as those of `pixel_tile` do, to the same bits."""
    cdef vec[24] sums
    cdef vec upper_left, upper_right, lower_left, lower_right, best
    cdef ivec number
    cdef const real* left
    cdef const real* right
    cdef Py_ssize_t p, q, k, n, plane = j.P * j.Q, below = 2 * j.phase_row
    cdef int i
    cdef real s
    for p in range(j.P):
        q = 0
        while q < j.Q:
            for i in range(m):
                sums[4 * i] = VSET1(bias[i]) if bias != NULL else VZERO
                sums[4 * i + 1] = sums[4 * i + 2] = sums[4 * i + 3] = sums[4 * i]
            for k in range(K):
                left = phases + taps[2 * k] + q
                right = phases + taps[2 * k + 1] + q
                upper_left = (<const uvec*>left)[0]
                upper_right = (<const uvec*>right)[0]
                lower_left = (<const uvec*>(left + below))[0]
                lower_right = (<const uvec*>(right + below))[0]
                for i in range(m):
                    s = w[i * K + k]
                    sums[4 * i] += s * upper_left
                    sums[4 * i + 1] += s * upper_right
                    sums[4 * i + 2] += s * lower_left
                    sums[4 * i + 3] += s * lower_right
            n = min(j.Q - q, VL)
            for i in range(m):
                largest_entry(True, sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3], &best, &number)
                VSTOREN(y + i * plane + q, best, n)
                STORE_BYTES(offsets + i * plane + q, TO_BYTES(number), n)
            q += VL
        y += j.Q
        offsets += j.Q
        phases += 2 * below


cdef void pool_by_windows(Winners* j, const real* phases, const Py_ssize_t* taps, const real* w, const real* bias,
                          real* y, u8* offsets) noexcept nogil:
    """One image."""
    cdef Py_ssize_t K = j.C * j.R * j.S, plane = j.P * j.Q, o = 0, left, m
    while o < j.O:
        left = j.O - o
        m = ceil_div(left, ceil_div(left, FOURS))
        windows_tiles(windows_tile, <int>m, j, phases, K, taps, w + o * K, after(bias, o), y + o * plane,
                      offsets + o * plane)
        o += m


# The same with output channels in the lanes, for rows of few windows: of 6 a vector of 16 numbers holds one and a third.
# (LeNet's second block at batch 64, float32, AVX-512: 114 us by way of memory, 77 so.)

cdef bint fill_lanes_with_channels(Winners* j) noexcept nogil:
    """Whether channels leave fewer lanes empty than pixels along a row."""
    return 1.2 * 2 * j.Q * ceil_div(j.O, VL) <= ceil_div(2 * j.Q, VL) * j.O


cdef inline void window_row_tile(
    int m, Winners* j, const real* seen, Py_ssize_t row, Py_ssize_t K, const Py_ssize_t* taps, const real* w, vec bias,
    real* y, ireal* numbers,
) noexcept nogil:
    """m neighbouring windows in each row of windows, for a vector of output channels."""
    cdef vec[24] sums
    cdef vec w_k, best
    cdef ivec number
    cdef const real* upper
    cdef const real* lower
    cdef Py_ssize_t p, k
    cdef int i
    for p in range(j.P):
        for i in range(4 * m):
            sums[i] = bias
        for k in range(K):
            w_k = (<const uvec*>(w + k * VL))[0]
            upper = seen + taps[k]
            lower = upper + row
            for i in range(m):
                sums[4 * i] += upper[2 * i] * w_k
                sums[4 * i + 1] += upper[2 * i + 1] * w_k
                sums[4 * i + 2] += lower[2 * i] * w_k
                sums[4 * i + 3] += lower[2 * i + 1] * w_k
        for i in range(m):
            largest_entry(True, sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3], &best, &number)
            (<uvec*>(y + i * VL))[0] = best
            (<uivec*>(numbers + i * VL))[0] = number
        seen += 2 * row
        y += j.Q * VL
        numbers += j.Q * VL


cdef Py_ssize_t channel_windows_size(Winners* j) noexcept nogil:
    """Numbers that `pool_by_channels` needs room for."""
    return 2 * j.P * j.Q * VL + VL * up(j.P * j.Q)


cdef void pool_by_channels(Winners* j, const real* seen, Py_ssize_t row, const Py_ssize_t* taps, const real* packed,
                           const real* bias, real* room, real* y, u8* offsets) noexcept nogil:
    """One image, by weights in panels of one vector. `bias` has whole vectors of entries."""
    cdef Py_ssize_t K = j.C * j.R * j.S, n_windows = j.P * j.Q, width = up(n_windows), o = 0, n, q, left, m, i
    cdef ireal* numbers = <ireal*>(room + n_windows * VL)
    cdef ireal* turned = numbers + n_windows * VL
    while o < j.O:
        n = min(j.O - o, VL)
        q = 0
        while q < j.Q:
            left = j.Q - q
            m = ceil_div(left, ceil_div(left, FOURS))
            window_row_tiles(window_row_tile, <int>m, j, seen + 2 * q, row, K, taps, packed + o * K,
                             (<const uvec*>(bias + o))[0], room + q * VL, numbers + q * VL)
            q += m
        transpose_from_panel(room, VL, n_windows, n, y + o * n_windows, n_windows)
        # Vectors of numbers travel as vectors of reals do: nothing calculates with them.
        transpose_from_panel(<const real*>numbers, VL, n_windows, n, <real*>turned, width)
        for i in range(n):
            q = 0
            while q < n_windows:
                STORE_BYTES(offsets + (o + i) * n_windows + q, TO_BYTES((<const uivec*>(turned + i * width + q))[0]),
                            min(n_windows - q, VL))
                q += VL
        o += n
