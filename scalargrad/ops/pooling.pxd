from scalargrad.ops.arguments cimport pair, rank


cdef object _images(operation, input)
