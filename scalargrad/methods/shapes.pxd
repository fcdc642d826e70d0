from scalargrad.methods.reductions cimport Reductions


cdef class Shapes(Reductions):
    pass
