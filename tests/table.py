"""The table of all public ops: at least one call of each, as a function of its floating-point arrays.

Everything that must hold for every op is tested by going through this table; a public op that is missing fails a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcnn as jc

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Case:
    f: Callable[..., Any]
    shapes: Callable[[int], Shapes]  # of the arguments, for a batch of n
    note: str = ""
    sample: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = lambda rng, shape: rng.normal(size=shape)
    op: str = ""  # where f is not the op itself

    @property
    def name(self) -> str:
        return self.op or getattr(self.f, "func", self.f).__name__

    def args(self, dtype: Any = jnp.float64, batch: int = 3) -> tuple[jax.Array, ...]:
        rng = np.random.default_rng(list(str(self).encode()))
        return tuple(jnp.asarray(self.sample(rng, shape), dtype) for shape in self.shapes(batch))

    def __str__(self) -> str:
        return f"{self.name}-{self.note}" if self.note else self.name


def _ties(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 3, size=shape).astype(float)


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 0.5 + rng.random(size=shape)


def _far(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 3 * rng.normal(size=shape)


def _cross_entropy(logits: jax.Array, reduction: str) -> jax.Array:
    return jc.softmax_cross_entropy(logits, np.arange(logits.shape[0]) % logits.shape[1], reduction=reduction)


def _soft_cross_entropy(logits: jax.Array) -> jax.Array:
    labels = np.random.default_rng(0).dirichlet(np.ones(logits.shape[1]), size=logits.shape[0])
    return jc.softmax_cross_entropy(logits, jnp.asarray(labels, logits.dtype))


ACTIVATIONS = [
    jc.relu,
    jc.leaky_relu,
    jc.elu,
    jc.selu,
    jc.celu,
    jc.gelu,
    jc.silu,
    jc.mish,
    jc.softplus,
    jc.softsign,
    jc.sigmoid,
    jc.tanh,
    jc.hard_sigmoid,
    jc.hard_silu,
    jc.hard_tanh,
    jc.softmax,
    jc.log_softmax,
]

CASES = [
    Case(jc.conv, lambda n: ((n, 7, 5, 4), (3, 2, 4, 6), (6,)), "bias"),
    Case(
        partial(jc.conv, stride=(2, 3), padding=((1, 0), (2, 3)), dilation=(2, 1), groups=2),
        lambda n: ((n, 7, 5, 4), (3, 2, 2, 6)),
        "strided-grouped",
    ),
    Case(partial(jc.conv, stride=4, padding="CAUSAL"), lambda n: ((n, 11, 3), (2, 3, 5)), "1d"),
    Case(partial(jc.conv, padding="VALID", stride=(1, 2, 1)), lambda n: ((n, 4, 5, 3, 2), (2, 3, 2, 2, 3)), "3d"),
    Case(jc.depthwise_conv, lambda n: ((n, 6, 5, 3), (3, 2, 1, 6), (6,))),
    Case(
        lambda dy, w: jc.conv_input_grad(dy, w, (dy.shape[0], 7, 5, 4), stride=(2, 3), groups=2),
        lambda n: ((n, 4, 2, 6), (3, 2, 2, 6)),
        op="conv_input_grad",
    ),
    Case(
        lambda x, dy: jc.conv_filter_grad(x, dy, (3, 2, 2, 6), stride=(2, 3), groups=2),
        lambda n: ((n, 7, 5, 4), (n, 4, 2, 6)),
        op="conv_filter_grad",
    ),
    Case(partial(jc.downsample, factor=(2, 3)), lambda n: ((n, 7, 5, 2),)),
    Case(partial(jc.upsample, factor=(2, 3)), lambda n: ((n, 3, 2, 2),)),
    Case(partial(jc.upsample, factor=2, shape=(6,)), lambda n: ((n, 3, 2),), "longer"),
    Case(partial(jc.pixel_shuffle, factor=(2, 3)), lambda n: ((n, 3, 2, 12),)),
    Case(partial(jc.pixel_shuffle, factor=2), lambda n: ((n, 2, 1, 3, 16),), "3d"),
    Case(partial(jc.pixel_unshuffle, factor=(2, 3)), lambda n: ((n, 4, 9, 2),)),
    Case(partial(jc.pixel_unshuffle, factor=3), lambda n: ((n, 6, 4),), "1d"),
    Case(partial(jc.resize, shape=(7, 3)), lambda n: ((n, 4, 5, 2),)),
    Case(partial(jc.resize, shape=(7, 3), method="linear"), lambda n: ((n, 4, 5, 2),), "linear"),
    Case(partial(jc.resize, shape=(1, 40, 3), method="linear"), lambda n: ((n, 4, 2, 3, 2),), "linear-3d"),
    Case(partial(jc.max_pool, window=(2, 3)), lambda n: ((n, 7, 9, 2),)),
    Case(partial(jc.max_pool, window=3, stride=2, padding="SAME"), lambda n: ((n, 7, 6, 2),), "overlapping"),
    Case(partial(jc.max_pool, window=3, stride=1, padding=1), lambda n: ((n, 5, 4, 2),), "ties", _ties),
    Case(partial(jc.max_pool, window=9, stride=2, padding="SAME"), lambda n: ((n, 11, 10, 2),), "large"),
    Case(partial(jc.max_pool, window=9, stride=3), lambda n: ((n, 11, 13, 2),), "large-ties", _ties),
    Case(partial(jc.mean_pool, window=(2, 3)), lambda n: ((n, 7, 9, 2),)),
    Case(partial(jc.mean_pool, window=3, stride=2, padding="SAME"), lambda n: ((n, 7, 6, 2),), "overlapping"),
    Case(jc.weighted_pool, lambda n: ((n, 7, 9, 2), (2, 3, 2))),
    Case(partial(jc.weighted_pool, stride=1, padding="SAME"), lambda n: ((n, 5, 6, 2), (2, 3)), "shared"),
    *(Case(f, lambda n: ((n, 4, 5),), sample=_far) for f in ACTIVATIONS),
    Case(partial(jc.leaky_relu, negative_slope=0.3), lambda n: ((n, 5),), "0.3"),
    Case(partial(jc.elu, alpha=0.7), lambda n: ((n, 5),), "0.7"),
    Case(partial(jc.celu, alpha=0.7), lambda n: ((n, 5),), "0.7"),
    Case(partial(jc.gelu, approximate=True), lambda n: ((n, 4, 5),), "tanh", _far),
    Case(jc.prelu, lambda n: ((n, 4, 5), (5,))),
    Case(jc.prelu, lambda n: ((n, 4, 5), ()), "shared"),
    Case(jc.dense, lambda n: ((n, 4), (4, 5), (5,)), "bias"),
    Case(jc.dense, lambda n: ((n, 3, 4), (4, 5)), "leading-axes"),
    Case(jc.flatten, lambda n: ((n, 3, 2, 4),)),
    Case(jc.batch_norm, lambda n: ((n, 4, 5, 2), (2,), (2,))),
    Case(partial(jc.batch_norm, eps=0.1), lambda n: ((n + 1, 5), (5,), (5,)), "dense"),
    Case(jc.batch_norm_inference, lambda n: ((n, 4, 5, 2), (2,), (2,), (2,), (2,)), sample=_positive),
    Case(jc.layer_norm, lambda n: ((n, 4, 3, 5), (5,), (5,))),
    Case(partial(jc.layer_norm, axes=(-1, 1), eps=0.1), lambda n: ((n, 4, 3, 5), (4, 5), (4, 5)), "two-axes"),
    Case(partial(jc.group_norm, groups=2), lambda n: ((n, 3, 5, 6), (6,), (6,))),
    Case(partial(jc.group_norm, groups=2), lambda n: ((n, 6), (6,), (6,)), "rows"),
    Case(jc.instance_norm, lambda n: ((n, 4, 3, 5), (5,), (5,))),
    Case(jc.rms_norm, lambda n: ((n, 4, 5), (5,))),
    Case(partial(jc.rms_norm, axes=(1, 2), eps=0.1), lambda n: ((n, 4, 5), (4, 5)), "two-axes"),
    Case(partial(jc.local_response_norm, size=3, alpha=0.5, k=2.0), lambda n: ((n, 4, 7),)),
    Case(partial(jc.local_response_norm, size=4, alpha=2.0, beta=0.5), lambda n: ((n, 3, 2, 5),), "even"),
    Case(jc.weight_norm, lambda n: ((3, 2, 4, 5), (5,))),
    # Converged, as it then is the gradient of w/σ, and from a constant, as u has none.
    Case(
        lambda w: jc.spectral_norm(w, jnp.ones(5), iterations=30),
        lambda n: ((3, 2, 4, 5),),
        sample=_positive,
        op="spectral_norm",
    ),
    Case(lambda x: jc.dropout(jax.random.key(1), x, 0.4), lambda n: ((n, 4, 5),), op="dropout"),
    Case(lambda x: jc.spatial_dropout(jax.random.key(1), x, 0.4), lambda n: ((n, 3, 2, 5),), op="spatial_dropout"),
    Case(lambda x: jc.drop_path(jax.random.key(2), x, 0.4), lambda n: ((n, 3, 5),), op="drop_path"),
    Case(lambda x: jc.drop_block(jax.random.key(1), x, 0.4, (2, 3)), lambda n: ((n, 7, 6, 2),), op="drop_block"),
    Case(partial(_cross_entropy, reduction="mean"), lambda n: ((n, 4),), op="softmax_cross_entropy"),
    Case(partial(_cross_entropy, reduction="sum"), lambda n: ((n, 4),), "sum", op="softmax_cross_entropy"),
    Case(partial(_cross_entropy, reduction="none"), lambda n: ((n, 4),), "none", op="softmax_cross_entropy"),
    Case(_soft_cross_entropy, lambda n: ((n, 4),), "soft", op="softmax_cross_entropy"),
    Case(jc.mean_squared_error, lambda n: ((n, 4), (n, 4))),
    Case(partial(jc.mean_squared_error, reduction="sum"), lambda n: ((n, 4), (n, 4)), "sum"),
    Case(partial(jc.mean_squared_error, reduction="none"), lambda n: ((n, 4), (n, 4)), "none"),
    Case(lambda w, b: jc.l2_penalty({"w": w, "b": b}), lambda n: ((4, 3), (2,)), op="l2_penalty"),
    Case(lambda w, b: jc.l1_penalty({"w": w, "b": b}), lambda n: ((4, 3), (2,)), op="l1_penalty"),
]
