"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scalargrad import kernels
from scalargrad.nn.parameter import stamp, with_gradients
from scalargrad.optim.optimizer import Optimizer, Params, at_least, zeros_for


class SGD(Optimizer):
    """p −= lr·d with d = g + weight_decay·p, or with momentum d = buffer, buffer = momentum·buffer + (1 − dampening)·g.

    The first gradient fills the buffer as it is. `nesterov` takes d = g + momentum·buffer (Sutskever et al. 2013, in
    PyTorch's form); `maximize` goes up instead of down.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def check(self, options: Mapping[str, Any]) -> None:
        at_least(options, "lr", "learning rate")
        at_least(options, "momentum", "momentum value")
        at_least(options, "weight_decay", "weight_decay value")
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def update(self, group: dict[str, Any]) -> None:
        params, arrays, grads = with_gradients(group["params"])
        buffers, first = None, []
        if group["momentum"] != 0:
            buffers = []
            for p in params:
                state = self.state[p]
                buffer = state.get("momentum_buffer")
                first.append(buffer is None)
                if buffer is None:
                    buffer = state["momentum_buffer"] = zeros_for(p)
                buffers.append(buffer.array)
        kernels.sgd_step(
            arrays,
            grads,
            buffers,
            lr=group["lr"],
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            first=first if True in first else False,
        )
        stamp(params)
