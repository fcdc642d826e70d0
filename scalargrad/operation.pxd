cimport cython


cdef class Recordable:
    pass  # no C methods, so that Value, which is a Node too, can derive from both


cdef class OfArrays(Recordable):
    cpdef object record(self, Op op, tuple inputs)


cdef class Plan:
    cdef public tuple which
    cdef public tuple save
    cdef public object pull
    cdef public object pull_arrays
    cdef public bint holds_tensors


cdef class Plans:
    cdef dict _made
    cdef object _op

    @cython.locals(plan=Plan)
    cpdef Plan of(self, mask)


cdef class Op:
    cdef public object number
    cdef public object array
    cdef public tuple inputs
    cdef public tuple results
    cdef public tuple derivatives
    cdef public object gradients
    cdef public object variadic
    cdef public object promote
    cdef public object domain
    cdef public object kinks
    cdef public bint is_single
    cdef public bint takes_pending
    cdef public bint view
    cdef public bint fits
    cdef public tuple positions
    cdef public object differentiable
    cdef public Plans plans
    cdef public object of_numbers
    cdef public object name
    cdef public object key
    cdef public object doc

    @cython.locals(array=OfArrays)
    cpdef object of(self, tuple inputs)
