cimport cython

from scalargrad.graph cimport Node
from scalargrad.operation cimport OfArrays, Op, Plan, Recordable
from scalargrad.pending cimport elements


cdef class Saved(OfArrays):
    cpdef object saved_by(self, TensorNode node, bint recording)


cdef class TensorNode(Node):
    cdef object __weakref__
    cdef public object dtype
    cdef public dict hooks
    cdef public object shape

    cpdef object receive(self, grad)


cdef class Backward(TensorNode):
    cdef public Op op
    cdef public Plan plan
    cdef public list parents
    cdef public list saved

    @cython.locals(held=Saved, recording=bint, takes_pending=bint, arguments=list, i=Py_ssize_t)
    cpdef object pull(self, grad, bint retain)


cdef class AccumulateGrad(TensorNode):
    cdef public object _leaf


cdef class Output(TensorNode):
    cdef public TensorNode node
    cdef public object number
    cdef public tuple parents


@cython.locals(node=Backward)
cpdef Backward recorded(Op op, Plan plan, list parents, list saved, shape, dtype)
