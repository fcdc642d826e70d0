"""Optimisers, with PyTorch's formulas, and `lr_scheduler`."""

from scalargrad.optim import lr_scheduler
from scalargrad.optim.adam import Adam, AdamW
from scalargrad.optim.optimizer import Optimizer
from scalargrad.optim.rmsprop import RMSprop
from scalargrad.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
