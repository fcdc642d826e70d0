# Between Python and the loops: arrays in (checked, converted, never misread), arrays out, scratch memory, threads.
cimport numpy as cnp
from cpython.long cimport PyLong_AsSsize_t, PyLong_CheckExact
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from scalargrad.kernels import geometry as words
from scalargrad.kernels._team cimport run, worker_t
from scalargrad.kernels._pool cimport array_of, pool_free, pool_malloc

cnp.import_array()

cdef extern from *:
    """
    #define DATA_OF(array) PyArray_DATA((PyArrayObject*)(array))
    """
    void* DATA_OF(object) nogil

cdef Py_ssize_t LARGEST_SIZE = words.LARGEST_SIZE
DTYPE = np.dtype(np.float32 if REALSZ == 4 else np.float64)

# The module for float64, if this one is for float32. Every function hands on what comes in float64.
cdef object float64_kernels = None


def pair_with(module):
    """Names the module that takes what this one is given in float64."""
    global float64_kernels
    float64_kernels = module


cdef inline bint is_for_float64(object value):
    if cnp.PyArray_Check(value):
        return cnp.PyArray_TYPE(<cnp.ndarray>value) != REAL_TYPENUM and (
            float64_kernels is not None and cnp.PyArray_TYPE(<cnp.ndarray>value) == cnp.NPY_DOUBLE
        )
    return float64_kernels is not None and isinstance(value, np.float64)


cdef cnp.ndarray converted(str op, str name, object value, int requirements):
    words.check_dtype(op, name, value, DTYPE)
    return cnp.PyArray_FROM_OTF(value, REAL_TYPENUM, requirements | cnp.NPY_ARRAY_NOTSWAPPED)


cdef inline cnp.ndarray take(str op, str name, object value):
    """`value` C-contiguous, aligned and in native byte order: itself, or a copy."""
    cdef cnp.ndarray copy
    if cnp.PyArray_Check(value) and cnp.PyArray_TYPE(<cnp.ndarray>value) == REAL_TYPENUM:
        if cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>value):
            return <cnp.ndarray>value
        if cnp.PyArray_CheckExact(value) and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>value):
            copy = turned(<cnp.ndarray>value)
            if copy is not None:
                return copy
    return converted(op, name, value, cnp.NPY_ARRAY_CARRAY_RO)


cdef inline bint strides_are_whole(cnp.ndarray array) noexcept:
    # Where a double is aligned to 4 bytes, as on 32-bit x86, a record's field can be aligned and lie at such strides.
    cdef int i
    for i in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_STRIDE(array, i) % <Py_ssize_t>sizeof(real) != 0:
            return False
    return True


cdef inline cnp.ndarray take_strided(str op, str name, object value):
    """`value` aligned and in native byte order, with strides of whole numbers, in any layout."""
    cdef cnp.ndarray array
    if cnp.PyArray_Check(value) and cnp.PyArray_TYPE(<cnp.ndarray>value) == REAL_TYPENUM:
        array = <cnp.ndarray>value
        if cnp.PyArray_ISBEHAVED_RO(array) and strides_are_whole(array):
            return array
    return converted(op, name, value, cnp.NPY_ARRAY_CARRAY_RO)


cdef inline tuple shape_of(cnp.ndarray array):
    return (<object>array).shape


cdef inline bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int i
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) != cnp.PyArray_DIM(b, i):
            return False
    return True


cdef inline cnp.ndarray fresh(int ndim, cnp.npy_intp* dims, int typenum):
    """An array for a result, C-contiguous, its entries not set."""
    return array_of(cnp.PyArray_DescrFromType(typenum), ndim, dims)


cdef inline cnp.ndarray fresh_like(cnp.ndarray array):
    return fresh(cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array), REAL_TYPENUM)


cdef inline cnp.ndarray fresh_4d(Py_ssize_t n, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w, int typenum):
    cdef cnp.npy_intp[4] dims
    dims[0] = n
    dims[1] = c
    dims[2] = h
    dims[3] = w
    return fresh(4, dims, typenum)


cdef inline real* data(cnp.ndarray array) noexcept:
    return <real*>DATA_OF(array)


cdef inline const real* after(const real* at, Py_ssize_t n) noexcept nogil:
    """n numbers further on, for what may be absent."""
    return at + n if at != NULL else at


cdef int take_pair(str op, str name, object value, Py_ssize_t minimum, Py_ssize_t* pair) except -1:
    """Two integers, each at least `minimum`."""
    cdef object first, second
    if type(value) is tuple and len(<tuple>value) == 2:
        first = (<tuple>value)[0]
        second = (<tuple>value)[1]
        if PyLong_CheckExact(first) and PyLong_CheckExact(second):
            pair[0] = PyLong_AsSsize_t(first)
            pair[1] = PyLong_AsSsize_t(second)
            if minimum <= pair[0] <= LARGEST_SIZE and minimum <= pair[1] <= LARGEST_SIZE:
                return 0
    first, second = words.check_pair(op, name, value, minimum)
    pair[0] = first
    pair[1] = second
    return 0


cdef int take_shape(str op, str name, object value, Py_ssize_t* shape) except -1:
    """Four sizes."""
    cdef int i
    if isinstance(value, tuple) and len(<tuple>value) == 4:
        for i in range(4):
            size = (<tuple>value)[i]
            if not PyLong_CheckExact(size):
                break
            shape[i] = PyLong_AsSsize_t(size)
            if not 0 <= shape[i] <= LARGEST_SIZE:
                break
        else:
            return 0
    for i, size in enumerate(words.check_shape(op, name, value)):
        shape[i] = size
    return 0


# One piece of memory a call, given back at its end. Nothing is kept from call to call, so that calls from several
# threads do not meet. A block starts on a cache line, whatever malloc gives.
cdef inline Py_ssize_t lines(Py_ssize_t size, Py_ssize_t n_bytes_each) noexcept nogil:
    """Bytes for `size` items, in whole cache lines."""
    return ((size * n_bytes_each + 63) // 64) * 64


cdef inline char* on_a_line(void* memory) noexcept nogil:
    return <char*>((<uintptr_t>memory + 63) & ~<uintptr_t>63)


cdef int team_size = 1
# Below this, some 20 us of work, one thread is done sooner than a team can be woken, which takes 5 to 55 us. With 1e7
# in its place, LeNet's step on two threads took 290 us for 257 at batch 16, and 709 for 570 at batch 64.
cdef double SERIAL_BELOW_FLOP = 2e6


def set_num_threads(int n):
    """Lets a large call use `n` threads."""
    global team_size
    team_size = n


cdef inline Py_ssize_t shares_of(double flop, Py_ssize_t n_units) noexcept nogil:
    """Into how many shares work of `n_units` equal parts is worth dividing."""
    if team_size <= 1 or flop < SERIAL_BELOW_FLOP or n_units <= 1:
        return 1
    return team_size if team_size < n_units else n_units


cdef inline Py_ssize_t start_of(Py_ssize_t share, Py_ssize_t n_shares, Py_ssize_t n_units) noexcept nogil:
    """The first unit of a share; the next share's first is one past its last."""
    return share * (n_units // n_shares) + (share if share < n_units % n_shares else n_units % n_shares)
