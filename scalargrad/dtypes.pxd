cpdef list promoted(list inputs, floating=*)
cdef bint _is_uniform(list inputs)
