from scalargrad.methods.shapes cimport Shapes


cdef class InPlace(Shapes):
    pass
