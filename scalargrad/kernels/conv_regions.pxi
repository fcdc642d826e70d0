# Which pixels of an image see which taps of a kernel. Pixels near the border see fewer; for the gradient of a
# convolution with a stride, neighbours see different ones. Rows that see the same rows of the kernel form a class, and
# columns likewise; a row class by a column class is a region, which is computed at once (conv_channels.pxi).

cdef struct Tap:
    Py_ssize_t x       # where it lies, from a pixel's first tap on
    Py_ssize_t weight  # its number

cdef struct Positions:
    # The rows or the columns of the output: which taps each sees, and where. Those that see the same form a class.
    Py_ssize_t n, n_classes
    # A class's first tap is the one that lies first in the input, so that memory is read in its order: the processor
    # fetches ahead upwards. (The gradient of 16 images of 128 × 28 × 28, 3 × 3: 235 GF/s, and 218 downwards.)
    Py_ssize_t step      # from a class's tap to its next, in numbers of taps; negative for the gradient
    Py_ssize_t shift     # and in rows or columns of the input
    Py_ssize_t* at       # of each position: the input's row or column under its first tap
    Py_ssize_t* kind     # of each position: its class
    Py_ssize_t* first    # of each class: the number of its first tap
    Py_ssize_t* count    # of each class: how many it sees

cdef struct Region:
    # Pixels of one chunk that see the same taps.
    Py_ssize_t n_pixels, first_pixel, first_tap, n_taps


cdef void settle_classes(Positions* p, Py_ssize_t position, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(p.n_classes):
        if p.first[i] == first and p.count[i] == count:
            p.kind[position] = i
            return
    p.kind[position] = p.n_classes
    p.first[p.n_classes] = first
    p.count[p.n_classes] = count
    p.n_classes += 1


cdef void look_forward(Positions* p, Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t padding,
                       Py_ssize_t dilation) noexcept nogil:
    """The positions of outputs over an input of `size`."""
    cdef Py_ssize_t i, at, first, last
    p.step = 1
    p.shift = dilation
    p.n_classes = 0
    for i in range(p.n):
        at = i * stride - padding
        first = ceil_div(-at, dilation) if at < 0 else 0
        last = (size - 1 - at) // dilation + 1 if at < size else 0
        last = min(last, kernel)
        first = min(first, last)
        p.at[i] = at + first * dilation
        settle_classes(p, i, first if last > first else 0, last - first)


cdef void look_back(Positions* p, Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t padding,
                    Py_ssize_t dilation) noexcept nogil:
    """The positions of inputs under windows, of which there are `size`."""
    cdef Py_ssize_t i, r, window, first, count, step = 1
    while step < stride and (step * dilation) % stride:
        step += 1
    p.step = -step
    p.shift = step * dilation // stride
    p.n_classes = 0
    for i in range(p.n):
        first = count = 0
        p.at[i] = 0
        for r in range(kernel - 1, -1, -1):
            if reaches(i, r, padding, stride, dilation, &window) and 0 <= window < size:
                if count == 0:
                    first = r
                    p.at[i] = window
                count += 1
        settle_classes(p, i, first, count)


cdef Py_ssize_t place(Positions* p, Py_ssize_t* places) noexcept nogil:
    """Gives positions the memory for their tables; how much of it."""
    p.at = places
    p.kind = places + p.n
    p.first = places + 2 * p.n
    p.count = places + 3 * p.n
    return 4 * p.n


cdef Py_ssize_t taps_seen(Positions* p) noexcept nogil:
    cdef Py_ssize_t i, n = 0
    for i in range(p.n_classes):
        n += p.count[i]
    return n
