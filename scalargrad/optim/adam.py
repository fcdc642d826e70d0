"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scalargrad import kernels
from scalargrad.nn.parameter import stamp, with_gradients
from scalargrad.optim.optimizer import Optimizer, Params, at_least, zeros_for


class Adam(Optimizer):
    """Moving averages m of the gradient and v of its square; p −= lr·m̂ / (√v̂ + eps) (Kingma & Ba 2015).

    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) at step t. `weight_decay` adds to the gradient; `amsgrad` takes the
    largest v so far (Reddi et al. 2018); `maximize` goes up instead of down.
    """

    decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, options)

    def check(self, options: Mapping[str, Any]) -> None:
        at_least(options, "lr", "learning rate")
        at_least(options, "eps", "epsilon value")
        at_least(options, "weight_decay", "weight_decay value")
        for i, beta in enumerate(options["betas"]):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")

    def update(self, group: dict[str, Any]) -> None:
        params, arrays, grads = with_gradients(group["params"])
        amsgrad = group["amsgrad"]
        steps, means, squares, largest = [], [], [], []
        for p in params:
            state = self.state[p]
            if not state:
                state.update(step=0, exp_avg=zeros_for(p), exp_avg_sq=zeros_for(p))
            if amsgrad and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = zeros_for(p)
            state["step"] += 1
            steps.append(int(state["step"]))
            means.append(state["exp_avg"].array)
            squares.append(state["exp_avg_sq"].array)
            if amsgrad:
                largest.append(state["max_exp_avg_sq"].array)
        beta1, beta2 = group["betas"]
        kernels.adam_step(
            arrays,
            grads,
            means,
            squares,
            largest if amsgrad else None,
            step=steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            amsgrad=amsgrad,
            maximize=group["maximize"],
            decoupled=self.decoupled,
        )
        stamp(params)


class AdamW(Adam):
    """Adam with a weight decay that goes past the averages: p −= lr·weight_decay·p (Loshchilov & Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
