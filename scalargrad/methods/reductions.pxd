from scalargrad.methods.arithmetic cimport Arithmetic


cdef class Reductions(Arithmetic):
    pass
