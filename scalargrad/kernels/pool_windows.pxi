# Where the windows of a pooling lie. Kernel, stride, padding and dilation, or adaptive sizes, come to the same: along
# each axis a list of extents, cut to what is inside the image.
from libc.stdint cimport int64_t

cdef struct Extent:
    # A window along one axis: the part inside the image.
    Py_ssize_t first    # entry
    Py_ssize_t count    # of entries, `dilation` apart
    Py_ssize_t earliest # entry that this window or a later one may hold
    Py_ssize_t number   # of the first: its place in the window, or in the image
    Py_ssize_t length   # by which a mean divides

cdef struct Pool:
    Py_ssize_t n_planes, H, W, P, Q
    Py_ssize_t[2] kernel
    Py_ssize_t[2] stride
    Py_ssize_t[2] padding
    Py_ssize_t[2] dilation
    Extent* rows
    Extent* columns
    Py_ssize_t number_row  # numbers of taps, or of pixels, from one row to the next
    const real* x
    real* y
    void* offsets
    Py_ssize_t offset_bytes
    bint with_relu
    double divisor         # of a mean, or 0 where it is each window's own length
    Py_ssize_t band        # rows of windows, or of the image, at one time
    char* scratch
    Py_ssize_t n_scratch_bytes, n_image_bytes, n_window_bytes


cdef inline Py_ssize_t end_of(Extent* s, Py_ssize_t dilation) noexcept nogil:
    return s.first + (s.count - 1) * dilation + 1 if s.count > 0 else 0


cdef inline bint is_halving(Pool* p) noexcept nogil:
    return (
        is_two_by_two(p.kernel, p.stride, p.padding, p.dilation) and p.P == p.H // 2 and p.Q == p.W // 2
    )


cdef inline void halving_of(Pool* p, Py_ssize_t n_planes, Py_ssize_t n_planes_behind, Halving* s) noexcept nogil:
    s.n_planes = n_planes
    s.P = p.P
    s.Q = p.Q
    s.H = p.H
    s.W = p.W
    s.row = p.W
    s.plane = p.H * p.W
    s.small_plane = p.P * p.Q
    s.bytes_behind = n_planes_behind * s.small_plane


cdef void fill_extents(Pool* p, bint count_include_pad) noexcept nogil:
    """The windows of a pooling by kernel, stride, padding and dilation."""
    cdef Py_ssize_t axis, i, start, tap, stop, size
    cdef Extent* s
    for axis in range(2):
        s = p.columns if axis else p.rows
        size = p.W if axis else p.H
        for i in range(p.Q if axis else p.P):
            start = i * p.stride[axis] - p.padding[axis]
            tap = ceil_div(-start, p.dilation[axis]) if start < 0 else 0
            s.first = start + tap * p.dilation[axis]
            s.count = min(ceil_div(size - s.first, p.dilation[axis]), p.kernel[axis] - tap) if s.first < size else 0
            if s.count <= 0:
                s.first = s.count = 0
            s.number = tap if tap < p.kernel[axis] else 0
            s.earliest = start
            stop = min(start + p.kernel[axis], size + p.padding[axis])
            s.length = stop - start if count_include_pad else min(stop, size) - max(start, 0)
            s += 1
    p.number_row = p.kernel[1]


cdef void fill_adaptive_extents(Pool* p) noexcept nogil:
    """Window i of P over H rows goes from ⌊i·H / P⌋ up to ⌈(i + 1)·H / P⌉."""
    cdef Py_ssize_t axis, i, n, size
    cdef Extent* s
    for axis in range(2):
        s = p.columns if axis else p.rows
        size = p.W if axis else p.H
        n = p.Q if axis else p.P
        for i in range(n):
            s.first = s.earliest = s.number = i * size // n
            s.count = s.length = ceil_div((i + 1) * size, n) - s.first
            s += 1
    p.number_row = p.W


cdef void windows_over(Pool* p, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t* first, Py_ssize_t* end) noexcept nogil:
    """The rows of windows that hold rows of the image from `start` to `stop`, from `first` on."""
    while first[0] < p.P and end_of(&p.rows[first[0]], p.dilation[0]) <= start:
        first[0] += 1
    end[0] = first[0]
    while end[0] < p.P and p.rows[end[0]].earliest < stop:
        end[0] += 1
