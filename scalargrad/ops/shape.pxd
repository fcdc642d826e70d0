cpdef tuple as_shape(shape)
cdef tuple _whole(input, tuple shape, operation)
