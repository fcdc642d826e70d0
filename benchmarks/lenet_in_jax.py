"""The work of lenet_vs_torch.py in JAX: the whole step compiled by jit, with the weights' memory handed on."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LEARNING_RATE = 0.01
LAYOUT = ("NCHW", "OIHW", "NCHW")


def step(
    work: str, weights: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray
) -> Callable[[], np.ndarray | jax.Array]:
    """A function that trains for a step and returns the loss, or one that returns the scores."""
    state = {name: jnp.asarray(array) for name, array in weights.items()}
    x, t = jnp.asarray(images), jnp.asarray(labels)

    def convolve(w, x, layer):
        y = lax.conv_general_dilated(
            x, w[f"{layer}.weight"], (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )
        y = jax.nn.relu(y + w[f"{layer}.bias"][:, None, None])
        return lax.reduce_window(y, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def connect(w, x, layer):
        return x @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]

    def forward(w, x):
        x = convolve(w, convolve(w, x, "conv1"), "conv2").reshape(len(x), -1)
        x = jax.nn.relu(connect(w, x, "fc1"))
        x = jax.nn.relu(connect(w, x, "fc2"))
        return connect(w, x, "fc3")

    def loss(w, x, t):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(forward(w, x)), t[:, None], 1))

    def update(w, x, t):
        value, grads = jax.value_and_grad(loss)(w, x, t)
        return value, jax.tree.map(lambda p, g: p - LEARNING_RATE * g, w, grads)

    trained, scored = jax.jit(update, donate_argnums=0), jax.jit(forward)

    def train():
        nonlocal state
        value, state = trained(state, x, t)
        return value.block_until_ready()

    def infer():
        return scored(state, x).block_until_ready()

    return train if work == "train" else infer
