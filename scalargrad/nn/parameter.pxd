cimport cython

from scalargrad.pending cimport are_zeros, is_alone, zeros_like
from scalargrad.tensor cimport Tensor, wrap


@cython.locals(p=Tensor, grad=Tensor, filled=list, now="long long")
cpdef object zero_gradients(object parameters, bint set_to_none)


@cython.locals(p=Tensor, grad=Tensor, params=list, arrays=list, grads=list)
cpdef tuple with_gradients(object parameters)


@cython.locals(t=Tensor, now="long long")
cpdef object stamp(object tensors)
