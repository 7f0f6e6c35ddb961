"""The table of all public ops: at least one call of each, as a function of its floating-point arrays.

Everything that must hold for every op is tested by going through this table; a public op that is missing fails a test.
"""

import math
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
        return tuple(jnp.asarray(np.asarray(self.sample(rng, shape)).astype(dtype)) for shape in self.shapes(batch))

    def __str__(self) -> str:
        return f"{self.name}-{self.note}" if self.note else self.name


def _ties(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 3, size=shape).astype(float)


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 0.5 + rng.random(size=shape)


def _far(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 3 * rng.normal(size=shape)


def _share(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 0.05 + 0.9 * rng.random(size=shape)


def _classes(like: jax.Array) -> np.ndarray:
    """A class for each example of [..., K]."""
    *shape, classes = like.shape
    return (np.arange(math.prod(shape)) % classes).reshape(shape)


def _max_unpool(y: jax.Array) -> jax.Array:
    """With places that several entries share, and places that none has."""
    places = np.random.default_rng(0).integers(0, 16, size=y.shape)
    return jc.max_unpool(y, places, 2, shape=(4, 4))


def _distributions(like: jax.Array) -> jax.Array:
    *shape, classes = like.shape
    return jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(classes), size=shape), like.dtype)


def _bits(shape: tuple[int, ...]) -> np.ndarray:
    """A mask, or labels of yes or no."""
    return (np.arange(math.prod(shape)) % 3 != 1).reshape(shape)


def _weights(like: jax.Array) -> jax.Array:
    return jnp.asarray(0.5 + np.arange(like.shape[-1]) / 4, like.dtype)


def _loss(op: Callable[..., Any], labels: Callable[[jax.Array], Any], note: str = "", **options: Any) -> Case:
    """A loss of scores [..., K] with its labels; options that are functions are called with the scores."""

    def f(z: jax.Array) -> jax.Array:
        return op(z, labels(z), **{name: o(z) if callable(o) else o for name, o in options.items()})

    inner, sample = ((3, 2), _share) if op is jc.dice else ((3,), _far)
    return Case(f, lambda n: ((n, *inner, 4),), note, sample, op.__name__)


def _some(z: jax.Array) -> np.ndarray:
    return _bits(z.shape)


def _some_examples(z: jax.Array) -> np.ndarray:
    return _bits(z.shape[:-1])


def _pair(op: Callable[..., Any], note: str = "", **options: Any) -> Case:
    """A loss of two arrays."""
    return Case(partial(op, **options), lambda n: ((n, 3, 4), (n, 3, 4)), note, _share)


def _masked_pair(op: Callable[..., Any], where: Callable[[jax.Array], np.ndarray]) -> Case:
    def f(y: jax.Array, target: jax.Array) -> jax.Array:
        return op(y, target, where=where(y))

    return Case(f, lambda n: ((n, 3, 4), (n, 3, 4)), "masked", _share, op.__name__)


def _masked_norm(op: Callable[..., Any], shapes: Callable[[int], Shapes], where: Callable[..., Any], **options) -> Case:
    """A norm that leaves out what `where`, of the shape of x, says."""

    def f(x: jax.Array, *parameters: jax.Array) -> Any:
        return op(x, *parameters, where=where(x.shape), **options)

    return Case(f, shapes, "masked", op=op.__name__)


def _some_places(shape: tuple[int, ...]) -> np.ndarray:
    return _bits((*shape[:-1], 1))


LOSSES = [
    _loss(jc.softmax_cross_entropy, _classes),
    _loss(jc.softmax_cross_entropy, _classes, "sum", reduction="sum"),
    _loss(jc.softmax_cross_entropy, _classes, "none", reduction="none", where=_some_examples),
    _loss(jc.softmax_cross_entropy, _classes, "weights", class_weights=_weights),
    _loss(
        jc.softmax_cross_entropy,
        _classes,
        "all",
        class_weights=_weights,
        label_smoothing=0.2,
        where=_some_examples,
        ignore_index=3,
    ),
    _loss(jc.softmax_cross_entropy, _distributions, "soft"),
    _loss(
        jc.softmax_cross_entropy,
        _distributions,
        "soft-all",
        class_weights=_weights,
        label_smoothing=0.2,
        where=_some_examples,
    ),
    _loss(jc.nll, _classes),
    _loss(jc.nll, _classes, "all", class_weights=_weights, where=_some_examples, ignore_index=3),
    _pair(jc.kl_divergence),
    _masked_pair(jc.kl_divergence, _some_examples),
    _loss(jc.sigmoid_cross_entropy, _some),
    _loss(jc.sigmoid_cross_entropy, lambda z: _some(z).astype(int), "all", pos_weight=_weights, where=_some),
    _loss(jc.sigmoid_cross_entropy, _distributions, "soft", reduction="none", pos_weight=lambda z: _weights(z)[1]),
    _loss(jc.focal, _some),
    _loss(jc.focal, lambda z: _some(z).astype(int), "all", gamma=1.5, alpha=None, where=lambda z: ~_some(z)),
    _loss(jc.hinge, _classes),
    _loss(jc.hinge, _classes, "all", margin=2.5, where=_some_examples, ignore_index=3),
    _loss(jc.dice, _classes),
    _loss(jc.dice, _classes, "masked", where=_some_examples, ignore_index=1, reduction="none"),
    _loss(jc.dice, _distributions, "soft", smooth=0),
    *(_pair(f) for f in (jc.mean_squared_error, jc.mean_absolute_error, jc.huber)),
    *(_masked_pair(f, _some) for f in (jc.mean_squared_error, jc.mean_absolute_error)),
    _pair(jc.huber, "0.3", delta=0.3, reduction="sum"),
]

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
# All these have the rule of relu, with another f.
RULE_OF_RELU = {f.__name__ for f in ACTIVATIONS} - {"relu", "softmax", "log_softmax"}

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
    Case(partial(jc.separable_conv, stride=2), lambda n: ((n, 6, 5, 3), (3, 2, 1, 6), (1, 1, 6, 4), (4,))),
    Case(
        partial(
            jc.conv_general_dilated,
            window_strides=(2, 1),
            padding=((1, 2), (0, 1)),
            lhs_dilation=(2, 3),
            rhs_dilation=(1, 2),
            feature_group_count=2,
        ),
        lambda n: ((n, 4, 3, 4), (6, 2, 2, 3)),
    ),
    Case(jc.conv_transpose, lambda n: ((n, 4, 3, 2), (3, 2, 5, 2), (5,)), "bias"),
    Case(
        partial(
            jc.conv_transpose,
            stride=(2, 3),
            padding=((1, 0), (-1, 2)),
            output_padding=(1, 2),
            dilation=(2, 1),
            groups=2,
        ),
        lambda n: ((n, 4, 3, 6), (3, 2, 2, 6)),
        "strided-grouped",
    ),
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
    Case(partial(jc.pad, width=((3, -1),), mode="reflect"), lambda n: ((n, 4, 2),), "reflect"),
    Case(partial(jc.pad, width=((2, 3),), mode="replicate"), lambda n: ((n, 4, 2),), "replicate"),
    Case(partial(jc.max_pool, window=(2, 3)), lambda n: ((n, 7, 9, 2),)),
    Case(partial(jc.max_pool, window=3, stride=2, padding="SAME"), lambda n: ((n, 7, 6, 2),), "overlapping"),
    Case(partial(jc.max_pool, window=3, stride=1, padding=1), lambda n: ((n, 5, 4, 2),), "ties", _ties),
    Case(partial(jc.max_pool, window=(4, 5)), lambda n: ((n, 9, 11, 2),), "side-by-side", _ties),
    Case(partial(jc.max_pool, window=9, stride=2, padding="SAME"), lambda n: ((n, 11, 10, 2),), "large"),
    Case(partial(jc.max_pool, window=9, stride=3), lambda n: ((n, 11, 13, 2),), "large-ties", _ties),
    Case(
        partial(jc.max_pool, window=(2, 3), stride=2, padding=((1, 0), (0, 1)), dilation=(2, 1), ceil_mode=True),
        lambda n: ((n, 7, 8, 2),),
        "dilated",
    ),
    Case(partial(jc.max_pool, window=66, dilation=2, stride=3), lambda n: ((n, 140, 2),), "large-dilated"),
    Case(
        lambda x: jc.max_pool(x, 3, stride=2, return_indices=True)[0],
        lambda n: ((n, 7, 6, 2),),
        "indices",
        op="max_pool",
    ),
    Case(_max_unpool, lambda n: ((n, 3, 2, 2),), op="max_unpool"),
    Case(
        partial(jc.mean_pool, window=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        lambda n: ((n, 6, 8, 2),),
        "without-padding",
    ),
    Case(partial(jc.mean_pool, window=3, padding=((1, -1), (2, -2))), lambda n: ((n, 7, 8, 2),), "shifted"),
    Case(partial(jc.mean_pool, window=3, stride=2, padding=1, ceil_mode=True), lambda n: ((n, 6, 8, 2),), "ceil"),
    Case(partial(jc.mean_pool, window=3, divisor=2.5), lambda n: ((n, 6, 8, 2),), "divisor"),
    Case(partial(jc.mean_pool, window=(2, 3)), lambda n: ((n, 7, 9, 2),)),
    Case(partial(jc.mean_pool, window=3, stride=2, padding="SAME"), lambda n: ((n, 7, 6, 2),), "overlapping"),
    Case(partial(jc.lp_pool, window=3, p=4, stride=2, ceil_mode=True), lambda n: ((n, 8, 2),), sample=_ties),
    Case(jc.weighted_pool, lambda n: ((n, 7, 9, 2), (2, 3, 2))),
    Case(partial(jc.weighted_pool, stride=1, padding="SAME"), lambda n: ((n, 5, 6, 2), (2, 3)), "shared"),
    Case(
        lambda x, share: jc.mixed_pool(x, share, 3, stride=2, padding="SAME"),
        lambda n: ((n, 7, 2), ()),
        op="mixed_pool",
    ),
    Case(
        lambda x, temperature: jc.softmax_pool(x, temperature, 3, stride=2, padding="SAME"),
        lambda n: ((n, 7, 2), (2,)),
        sample=_share,
        op="softmax_pool",
    ),
    Case(
        lambda x, temperature: jc.softmax_pool(x, temperature, 130, stride=2, padding=((1, 2),)),
        lambda n: ((n, 133, 1), (1,)),
        "large",
        _share,
        op="softmax_pool",
    ),
    Case(
        lambda x: jc.stochastic_pool(jax.random.key(1, impl="rbg"), x, 3, stride=2, padding="SAME"),
        lambda n: ((n, 7, 2),),
        op="stochastic_pool",
    ),
    Case(
        lambda x: jc.stochastic_pool(jax.random.key(1, impl="rbg"), x, (9, 8), stride=(3, 2), padding="SAME"),
        lambda n: ((n, 5, 8, 2),),
        "large",
        op="stochastic_pool",
    ),
    Case(
        partial(jc.stochastic_pool_inference, window=3, stride=2, padding="SAME"),
        lambda n: ((n, 8, 2),),
        sample=lambda rng, shape: rng.normal(size=shape) - 0.5,
    ),
    Case(jc.global_mean_pool, lambda n: ((n, 4, 3, 2),)),
    Case(jc.global_max_pool, lambda n: ((n, 4, 3, 2),)),
    Case(jc.global_max_pool, lambda n: ((n, 12, 2),), "ties", _ties),
    Case(partial(jc.adaptive_mean_pool, shape=(3, 2)), lambda n: ((n, 7, 4, 2),)),
    Case(partial(jc.adaptive_max_pool, shape=(3, 2)), lambda n: ((n, 7, 4, 2),)),
    Case(partial(jc.adaptive_max_pool, shape=(3, 5)), lambda n: ((n, 7, 4, 2),), "ties", _ties),
    *(Case(f, lambda n: ((n, 4, 5),), sample=_far) for f in ACTIVATIONS),
    Case(partial(jc.relu, keeps="output"), lambda n: ((n, 4, 5),), "output", _ties),
    Case(partial(jc.leaky_relu, negative_slope=0.3), lambda n: ((n, 5),), "0.3"),
    Case(partial(jc.elu, alpha=0.7), lambda n: ((n, 5),), "0.7"),
    Case(partial(jc.celu, alpha=0.7), lambda n: ((n, 5),), "0.7"),
    Case(partial(jc.gelu, approximate=True), lambda n: ((n, 4, 5),), "tanh", _far),
    Case(partial(jc.softmax, axis=-2), lambda n: ((n, 4, 5),), "axis", _far),
    Case(partial(jc.log_softmax, axis=(1, -1)), lambda n: ((n, 4, 3, 2),), "axes", _far),
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
    _masked_norm(jc.batch_norm, lambda n: ((n, 4, 5, 2), (2,), (2,)), _some_places),
    _masked_norm(jc.layer_norm, lambda n: ((n, 4, 3, 5), (5,), (5,)), _bits),
    _masked_norm(jc.group_norm, lambda n: ((n, 3, 5, 6), (6,), (6,)), _bits, groups=2),
    _masked_norm(jc.instance_norm, lambda n: ((n, 4, 3, 5), (5,), (5,)), _some_places),
    _masked_norm(jc.rms_norm, lambda n: ((n, 4, 5), (5,)), _bits),
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
    *LOSSES,
    Case(lambda w, b: jc.l2_penalty({"w": w, "b": b}), lambda n: ((4, 3), (2,)), op="l2_penalty"),
    Case(lambda w, b: jc.l1_penalty({"w": w, "b": b}), lambda n: ((4, 3), (2,)), op="l1_penalty"),
]
