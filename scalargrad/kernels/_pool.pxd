cimport numpy as cnp

cdef void* pool_malloc(void* ctx, size_t n) noexcept nogil
cdef void pool_free(void* ctx, void* pointer, size_t n) noexcept nogil
cdef cnp.ndarray array_of(cnp.dtype dtype, int ndim, cnp.npy_intp* dims)
