cimport cython


cdef class Node:
    cdef public object seq

    cpdef object pull(self, grad, bint retain)


@cython.locals(found=list, seen=set, todo=list, node=Node)
cpdef list operations(Node root)


@cython.locals(order=list, grads=dict, sums=set, node=Node)
cpdef dict sweep(Node root, seed, targets=*, bint keep=*, bint retain=*, plus=*)
