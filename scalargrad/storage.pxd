cimport cython


cdef class Storage:
    cdef public long long written
    cdef public list _views
    cdef public Py_ssize_t _capacity

    cpdef object add_view(self, view)


@cython.locals(storage=Storage)
cpdef Storage fresh_storage()
