cpdef object rank(operation, input, argument=*)
cpdef tuple pair(size, operation, argument)
