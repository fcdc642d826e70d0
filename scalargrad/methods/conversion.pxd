from scalargrad.methods.inplace cimport InPlace


cdef class Conversion(InPlace):
    pass


cdef class Casting(Conversion):
    pass
