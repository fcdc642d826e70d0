"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scalargrad import kernels
from scalargrad.nn.parameter import stamp, with_gradients
from scalargrad.optim.optimizer import Optimizer, Params, at_least, zeros_for


class RMSprop(Optimizer):
    """A moving average v of the gradient's square; p −= lr·g / (√v + eps) (Hinton's lecture 6e).

    `centered` divides by the standard deviation instead: √(v − ḡ²), ḡ the gradient's moving average (Graves 2013). With
    momentum the quotient goes into a buffer, buffer = momentum·buffer + quotient, and p −= lr·buffer.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def check(self, options: Mapping[str, Any]) -> None:
        at_least(options, "lr", "learning rate")
        at_least(options, "eps", "epsilon value")
        at_least(options, "momentum", "momentum value")
        at_least(options, "weight_decay", "weight_decay value")
        at_least(options, "alpha", "alpha value")

    def update(self, group: dict[str, Any]) -> None:
        params, arrays, grads = with_gradients(group["params"])
        names = ["square_avg"]
        if group["centered"]:
            names.append("grad_avg")
        if group["momentum"] > 0:
            names.append("momentum_buffer")
        remembered: dict[str, list[Any]] = {name: [] for name in names}
        for p in params:
            state = self.state[p]
            state["step"] = state.get("step", 0) + 1
            for name in names:
                if name not in state:
                    state[name] = zeros_for(p)
                remembered[name].append(state[name].array)
        kernels.rmsprop_step(
            arrays,
            grads,
            remembered["square_avg"],
            remembered.get("grad_avg"),
            remembered.get("momentum_buffer"),
            lr=group["lr"],
            alpha=group["alpha"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            centered=group["centered"],
            maximize=group["maximize"],
        )
        stamp(params)
