"""jax.lax and jax.numpy, with the backward pass that JAX derives."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmark.layers import EPS
from benchmark.peers.jax_peer import JaxPeer


class Peer(JaxPeer):
    def conv(self, x, p, layer):
        return p.get("b", 0) + convolve(x, p["w"], layer.stride, layer.padding, 1, layer.groups)

    def conv_transpose(self, x, p, layer):
        return p["b"] + convolve_transposed(x, p["w"], layer.stride, layer.padding)

    def batch_norm(self, x, p):
        axes = tuple(range(x.ndim - 1))
        wide = x.astype(jnp.float32)
        mean, var = jnp.mean(wide, axes), jnp.var(wide, axes)
        return (p["gamma"] * (wide - mean) * lax.rsqrt(var + EPS) + p["beta"]).astype(x.dtype)

    def dense(self, x, p, _):
        return x @ p["w"] + p["b"]

    def relu(self, x, _):
        return jax.nn.relu(x)

    def max_pool(self, x, window):
        return pool(x, window, window, "VALID")

    def global_mean_pool(self, x):
        return jnp.mean(x, tuple(range(1, x.ndim - 1)))

    def flatten(self, x):
        return x.reshape(x.shape[0], -1)

    def apply(self, operation, x, w):
        stride, padding = operation.stride, operation.padding
        match operation.kind:
            case "conv":
                return convolve(x, w, stride, padding, operation.dilation, operation.groups)
            case "conv_transpose":
                return convolve_transposed(x, w, stride, padding)
            case "max_pool":
                return pool(x, operation.kernel, stride, padding)


def layout(axes):
    size = "HWD"[:axes]
    return f"N{size}C", f"{size}IO", f"N{size}C"


def convolve(x, w, stride, padding, dilation, groups):
    axes = x.ndim - 2
    return lax.conv_general_dilated(
        x,
        w,
        (stride,) * axes,
        padding if isinstance(padding, str) else [(padding, padding)] * axes,
        rhs_dilation=(dilation,) * axes,
        dimension_numbers=layout(axes),
        feature_group_count=groups,
    )


def convolve_transposed(x, w, stride, padding):
    axes = x.ndim - 2
    around = [(k - 1 - padding, k - 1 - padding) for k in w.shape[:-2]]
    return lax.conv_transpose(x, w, (stride,) * axes, around, dimension_numbers=layout(axes), transpose_kernel=True)


def pool(x, window, stride, padding):
    axes = x.ndim - 2
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *(window,) * axes, 1), (1, *(stride,) * axes, 1), padding)
