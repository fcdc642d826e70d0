from scalargrad.nodes cimport Saved


cdef class Arithmetic(Saved):
    pass
