ctypedef void (*worker_t)(void* job, Py_ssize_t share, Py_ssize_t n_shares) noexcept nogil

cdef void run(worker_t worker, void* job, Py_ssize_t n_shares) noexcept nogil
