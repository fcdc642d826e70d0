cimport cython


cdef class Pending:
    cdef object __weakref__
    cdef public object run
    cdef public tuple inputs
    cdef public object shape
    cdef public object dtype
    cdef public object _array
    cdef public object lock


cdef object ndarray
cdef object _zeros

cpdef elements(x)


@cython.locals(zeros=Pending)
cpdef Pending zeros_like(array)


@cython.locals(pending=Pending)
cpdef bint are_zeros(x)


cpdef object wait(Pending pending, holders, list arrays)


@cython.locals(inputs=list, held=list, shared=list, i=Py_ssize_t, k=Py_ssize_t)
cdef list _shared(Pending pending, holders, list arrays)


cdef object _array_of(x)

cpdef bint is_alone(holder)
cpdef Py_ssize_t _references(holder)
