from scalargrad.methods.conversion cimport Casting


cdef class InGraph(Casting):
    pass
