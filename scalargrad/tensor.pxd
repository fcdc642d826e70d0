cimport cython

from scalargrad.graph cimport Node, sweep
from scalargrad.dtypes cimport promoted
from scalargrad.methods.graph cimport InGraph
from scalargrad.nodes cimport AccumulateGrad, Saved, TensorNode, recorded
from scalargrad.operation cimport Op, Plan
from scalargrad.pending cimport Pending, are_zeros, wait
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
    cdef object elements(self)
    cpdef Storage own_storage(self)
    cpdef object stamp(self, long long now=*)

    @cython.locals(before=Tensor, zeros=Pending)
    cpdef object accumulate(self, grad, bint unshared, long long now=*)


@cython.locals(t=Tensor)
cpdef Tensor wrap(array, TensorNode edge=*)


@cython.locals(r=Result)
cpdef Result result(Tensor out)


@cython.locals(arrays=list, out=Tensor, t=Tensor, i=Py_ssize_t)
cpdef object apply(Op op, tuple inputs)


@cython.locals(
    edges=list, mask=long, i=Py_ssize_t, j=Py_ssize_t, k=Py_ssize_t, t=Tensor, plan=Plan, saved=list
)
cdef object _remember(Op op, tuple inputs, list arrays, object results, Tensor out, object dtype)


@cython.locals(node=TensorNode, leaf=Tensor, taken=set, now="long long")
cpdef object backpropagate(
    object outputs, object seeds, object retain_graph=*, bint create_graph=*, object inputs=*
)


@cython.locals(starts=list, grads=dict, i=Py_ssize_t)
cpdef tuple gradients(object outputs, object seeds, object retain_graph, bint create_graph, object targets)


cdef object _start(Py_ssize_t i, Tensor y, object seed, bint recording)


cdef object _shape(x)
cdef object _share(Tensor out, Tensor x)
