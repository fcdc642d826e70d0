cimport cython


cdef class Node:
    cdef public long long seq

    cpdef object receive(self, grad)
    cpdef object pull(self, grad, bint retain)


@cython.locals(found=list, seen=set, todo=list, node=Node, last_seq="long long", in_order=bint)
cpdef list operations(Node root)


@cython.locals(order=list, grads=dict, sums=set, node=Node, i=Py_ssize_t)
cpdef dict sweep(Node root, seed, targets=*, bint keep=*, bint retain=*, plus=*)
