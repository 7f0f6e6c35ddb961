"""What is compiled and measured: functions with our gradients, and the same with those that JAX derives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmark import networks, operations
from benchmark.networks import draw_batch
from benchmark.peers.jaxcnn_peer import Peer as Ours
from benchmark.peers.lax_peer import Peer as Lax

import jaxcnn as jc
from jaxcnn import nn

# Ops that are no convolutions, each as a function of an image, and the image.
IMAGE, LARGE = (32, 56, 56, 64), (32, 112, 112, 64)
OTHERS = {
    "max_pool 2/2": (partial(jc.max_pool, window=2), IMAGE),
    "max_pool 3/2": (partial(jc.max_pool, window=3, stride=2, padding="SAME"), LARGE),
    "max_pool 3/1": (partial(jc.max_pool, window=3, stride=1, padding="SAME"), (32, 28, 28, 256)),
    "max_pool 2/2 of volumes": (partial(jc.max_pool, window=2), (4, 32, 32, 32, 32)),
    "mean_pool 2/2": (partial(jc.mean_pool, window=2), IMAGE),
    "mean_pool 3/2": (partial(jc.mean_pool, window=3, stride=2, padding="SAME"), IMAGE),
    "mean_pool 3/1": (partial(jc.mean_pool, window=3, stride=1, padding="SAME"), IMAGE),
    "lp_pool 2/2": (partial(jc.lp_pool, p=2, window=2), IMAGE),
    "softmax_pool 2/2": (lambda x: jc.softmax_pool(x, jnp.ones((), x.dtype), 2), IMAGE),
    "global_max_pool": (jc.global_max_pool, IMAGE),
    "global_mean_pool": (jc.global_mean_pool, IMAGE),
    "adaptive_mean_pool 7": (partial(jc.adaptive_mean_pool, shape=(7, 7)), IMAGE),
    "adaptive_max_pool 6": (partial(jc.adaptive_max_pool, shape=(6, 6)), IMAGE),
    "upsample 2": (partial(jc.upsample, factor=2), (32, 28, 28, 64)),
    "resize linear": (partial(jc.resize, shape=(112, 112), method="linear"), IMAGE),
    "resize nearest": (partial(jc.resize, shape=(112, 112), method="nearest"), IMAGE),
    "pixel_shuffle 2": (partial(jc.pixel_shuffle, factor=2), IMAGE),
    "relu": (jc.relu, IMAGE),
    "gelu": (jc.gelu, IMAGE),
    "silu": (jc.silu, IMAGE),
    "mish": (jc.mish, IMAGE),
    "softmax": (jc.softmax, (8192, 1000)),
    "local_response_norm": (partial(jc.local_response_norm, size=5), IMAGE),
}
WITH_SCALES = {
    "batch_norm": lambda x, gamma, beta: jc.batch_norm(x, gamma, beta)[0],
    "layer_norm": jc.layer_norm,
    "group_norm 8": lambda x, gamma, beta: jc.group_norm(x, gamma, beta, groups=8),
    "instance_norm": jc.instance_norm,
    "rms_norm": lambda x, gamma, beta: jc.rms_norm(x, gamma) + beta,
}
MODELS = {
    "ResNet-50": (nn.resnet(50), (32, 224, 224, 3)),
    "MobileNet v2": (nn.mobilenet_v2(), (32, 224, 224, 3)),
    "VGG-16": (nn.vgg(16), (32, 224, 224, 3)),
    "VGG-16 with batch norm": (nn.vgg(16, batch_norm=True), (32, 224, 224, 3)),
    "ConvNeXt": (nn.convnext(), (32, 224, 224, 3)),
    "U-Net": (nn.unet(), (4, 256, 256, 1)),
    "U-Net 3-D": (nn.unet_3d(), (1, 64, 64, 64, 3)),
}
SMALL_MODELS = {"LeNet": (nn.lenet(), (8, 28, 28, 1)), "U-Net": (nn.unet(depth=1, width=4), (2, 16, 16, 1))}


@dataclass(frozen=True, eq=False)
class Case:
    """A function, ours and that of JAX's derivatives, with the types of its arguments.

    `draw` makes arguments of them. By default all numbers are standard normal.
    """

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    types: tuple[Any, ...]
    draw: Callable[[], tuple[Any, ...]] | None = None

    def __str__(self) -> str:
        return self.name

    def arguments(self) -> tuple[Any, ...]:
        if self.draw is not None:
            return self.draw()
        return tuple(normal(type.shape, number).astype(type.dtype) for number, type in enumerate(self.types))


NORMAL = np.random.default_rng(1).standard_normal(1_000_003).astype(np.float32)


def normal(shape, number=0):
    """Standard normal numbers that bfloat16 holds, so that all dtypes have the same; they recur in large arrays."""
    return jnp.asarray(np.resize(np.roll(NORMAL, 314_159 * number), shape), jnp.bfloat16)


def filled(like):
    """Filters of about the scale of their initialisation; ones for what has one axis."""
    if len(like.shape) < 2:
        return jnp.ones(like.shape, like.dtype)
    return jnp.asarray(np.resize(NORMAL, like.shape) * np.sqrt(2 / np.prod(like.shape[:-1])), like.dtype)


def gradient_of(f, argument, *arrays):
    """The gradient with respect to one argument of <f, dy>, dy being the last array."""
    *arrays, dy = arrays
    _, pull = jax.vjp(lambda a: f(*arrays[:argument], a, *arrays[argument + 1 :]), arrays[argument])
    return pull(dy)[0]


def both_passes(f, *arrays):
    """The value, and the gradients with respect to all arrays but the last, dy."""
    y, pull = jax.vjp(f, *arrays[:-1])
    return y, pull(arrays[-1])


def forward_of(f, *arrays):
    return f(*arrays[:-1])


def operation_cases(dtype: str, quick: bool = False, batches: int = 1) -> Iterator[Case]:
    """The parts of the operations of the benchmark, with so many times the images."""
    for operation in operations.QUICK if quick else operations.OPERATIONS:
        n, *rest = operation.input
        operation = replace(operation, input=(n * batches, *rest))
        shapes = operation.input, operation.filter_shape, operation.output
        types = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes if shape is not None)
        both = [partial(peer.apply, None, operation) for peer in (Ours, Lax)]
        if operation.has_filter:
            parts = {"forward": forward_of, "dx": partial(_gradient, 0), "dw": partial(_gradient, 1)}
        else:
            both = [partial(f, w=None) for f in both]
            parts = {"forward": forward_of, "dx": both_passes}
        for part, of in parts.items():
            ours, theirs = (partial(of, f) for f in both)
            yield Case(f"{operation.name} | {part} | {dtype}", ours, theirs, types)


def _gradient(argument, f, *arrays):
    return gradient_of(f, argument, *arrays)


def other_cases(dtype: str, quick: bool = False, batches: int = 1) -> Iterator[Case]:
    """The ops that are no convolutions, beside what JAX derives of their plain functions."""
    for name, (f, shape) in {**OTHERS, **{name: (f, IMAGE) for name, f in WITH_SCALES.items()}}.items():
        shape = (2, *(max(2, s // 8) for s in shape[1:])) if quick else (batches * shape[0], *shape[1:])
        shapes = [shape] + [shape[-1:]] * 2 * (name in WITH_SCALES)
        types = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
        y = jax.eval_shape(f, *types)
        ours, theirs = (partial(both_passes, g) for g in (f, jc.derived(f)))
        yield Case(f"{name} | both | {dtype}", ours, theirs, (*types, jax.ShapeDtypeStruct(y.shape, dtype)))


def network_cases(dtype: str, quick: bool = False) -> Iterator[Case]:
    """Value and gradient of the loss of the networks of the benchmark, in jaxcnn's ops and in lax's."""
    for name, network in (networks.QUICK if quick else networks.NETWORKS).items():
        if network.per_example:
            continue
        images, labels = draw_batch(network)
        parts = []
        for peer in (Ours(None), Lax(None)):
            parameters, model = peer.prepare(network, dtype)
            of = peer.squared_error if network.reconstructs else peer.cross_entropy
            parts.append(jax.value_and_grad(lambda p, x, y, model=model, of=of: of(model(p, x), y)))
        x = jnp.asarray(images, dtype)
        arguments = parameters, x, x if network.reconstructs else jnp.asarray(labels)
        ours, theirs = parts
        yield Case(f"{name} | step | {dtype}", ours, theirs, _types(arguments), lambda arguments=arguments: arguments)


def model_cases(dtype: str, quick: bool = False) -> Iterator[Case]:
    """Value and gradient of the loss of the models of `jaxcnn.nn` in training; then with outputs of convolutions kept
    alone, which is the `stored="convolutions"` of `train.make_step`."""
    for name, (model, shape) in (SMALL_MODELS if quick else MODELS).items():
        ours, theirs, types, draw = _training(model, shape, dtype)
        theirs = jax.value_and_grad(theirs)
        yield Case(f"{name} | step | {dtype}", jax.value_and_grad(ours), theirs, types, draw)
        stored = jax.value_and_grad(jax.checkpoint(ours, policy=jc.convolutions_saveable))
        yield Case(f"{name}, convolutions stored | step | {dtype}", stored, theirs, types, draw)


def _training(model, shape, dtype):
    """The loss of a model, the same with JAX's derivatives, the types of parameters and images, and what draws them."""
    init = partial(model.init, input_shape=shape)
    params, statistics = jax.eval_shape(init, jax.random.key(0))
    statistics = jax.tree.map(filled, statistics)
    out, _ = jax.eval_shape(model.apply, params, statistics, jax.ShapeDtypeStruct(shape, "float32"))
    labels = np.random.default_rng(0).integers(0, out.shape[-1], out.shape[:-1]).astype(np.int32)

    def risk(params, x):
        logits, _ = model.apply(params, statistics, x, train=True, key=jax.random.key(1))
        return jc.softmax_cross_entropy(logits.astype(jnp.float32), labels)

    types = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), params), jax.ShapeDtypeStruct(shape, dtype)

    def draw():
        return jax.tree.map(filled, types[0]), normal(shape).astype(dtype)

    return risk, jc.derived(risk), types, draw


def _types(arguments):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
