"""Gradients: `backward` and `grad` for Tensors and Values, the modes, Functions of the user's own, and their checks."""

from scalargrad.autograd.function import Function
from scalargrad.autograd.gradcheck import gradcheck, gradgradcheck
from scalargrad.autograd.gradients import backward, grad
from scalargrad.autograd.problem import GradcheckError, KinkWarning
from scalargrad.grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

__all__ = [
    "Function",
    "GradcheckError",
    "KinkWarning",
    "backward",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "no_grad",
    "set_grad_enabled",
]
