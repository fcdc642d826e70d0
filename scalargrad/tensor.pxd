cimport cython

from scalargrad.graph cimport Node, sweep
from scalargrad.dtypes cimport promoted
from scalargrad.methods.graph cimport InGraph
from scalargrad.nodes cimport Saved, TensorNode, recorded
from scalargrad.operation cimport Op, Plan
from scalargrad.pending cimport Pending, are_zeros, elements
from scalargrad.storage cimport Storage, fresh_storage


cdef object ndarray


cdef class Result(Saved):
    cdef public object array
    cdef public Storage storage

    cpdef object saved_by(self, TensorNode node, bint recording)


cdef class Tensor(InGraph):
    cdef object __weakref__
    cdef public object _array
    cdef public TensorNode edge
    cdef public Storage storage
    cdef public object _grad
    cdef public Tensor base

    cpdef object record(self, Op op, tuple inputs)
    cpdef object saved_by(self, TensorNode node, bint recording)
    cpdef Storage own_storage(self)


@cython.locals(t=Tensor)
cpdef Tensor wrap(array, TensorNode edge=*)


@cython.locals(r=Result)
cpdef Result result(Tensor out)


@cython.locals(arrays=list, out=Tensor, t=Tensor)
cpdef object apply(Op op, object inputs)


@cython.locals(edges=list, mask=long, i=Py_ssize_t, k=Py_ssize_t, t=Tensor, plan=Plan, saved=list, kind=str)
cdef object _remember(Op op, object inputs, list arrays, object results, Tensor out)


cdef object _shape(x)
