"""Layers made of layers that have the same input: a way around, branches side by side, and the skips of a U-Net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxcnn.contract import arguments
from jaxcnn.nn.calls import layer_maker
from jaxcnn.nn.fitting import check_trees
from jaxcnn.nn.inspection import shapes_of
from jaxcnn.nn.layer import Layer, LayerLike, checked_layer, knowing
from jaxcnn.nn.members import apply_member, init_member, named_members


@layer_maker
def residual(body: LayerLike, shortcut: LayerLike | None = None) -> Layer:
    """A layer and a way around it.

        y = body(x) + shortcut(x)

    Args:
        body: a layer or a function of an array.
        shortcut: another one, for instance a 1x1 convolution where the body changes the shape; by default x itself.

    Returns:
        A layer with params {"body": ..., "shortcut": ...}, and state likewise; no entry for what has no parameters.

    Raises:
        TypeError: an argument is neither a layer nor a function.
        ValueError: from init and apply if body and shortcut differ in the shape of what comes out.

    Source: He et al., Deep residual learning for image recognition, 2016.

    >>> import jax
    >>> from jaxcnn import nn
    >>> block = nn.residual(nn.conv(16, 3), shortcut=nn.conv(16, 1))
    >>> params, _ = block.init(jax.random.key(0), (1, 8, 8, 3))
    >>> params["shortcut"]["w"].shape
    (1, 1, 3, 16)
    """
    members = {"body": checked_layer("nn.residual", "body", body)}
    if shortcut is not None:
        members["shortcut"] = checked_layer("nn.residual", "shortcut", shortcut)

    def check(x, body, detour=None):
        detour = x if detour is None else detour
        expected, got = f"of the output shape {list(body)} of body", f"output shape {list(detour)}"
        arguments.require(body == detour, "nn.residual", "shortcut", expected, got)

    def join(x, y, detour=None):
        return y + (x if detour is None else detour)

    return _branching("residual", members, check, join)


@layer_maker
def parallel(*branches: LayerLike, join: Callable[..., Any] | None = None) -> Layer:
    """Several layers that have the same input.

        y = join(branch_1(x), ..., branch_B(x))

    Args:
        branches: layers and functions of an array, which are called as those of `sequential`.
        join: join(y_1, ..., y_B) makes one array of what comes out of the branches, for instance their product. By
            default they come out as a tuple: a model with several heads.

    Returns:
        A layer with params {"conv1": ..., "sequential1": ...}, and state likewise; no entry for what has no parameters.

    Raises:
        TypeError: a branch is neither a layer nor a function, join is no function.
        ValueError: there is no branch, or two have the same name.

    A squeeze and excitation (Hu et al., 2018), each channel times a factor that depends on all of them:

    >>> import operator
    >>> from jaxcnn import nn, relu, sigmoid
    >>> factor = nn.sequential(nn.adaptive_mean_pool((1, 1)), nn.conv(4, 1), relu, nn.conv(16, 1), sigmoid)
    >>> nn.output_shape(nn.parallel(lambda x: x, factor, join=operator.mul), (1, 8, 8, 16))
    (1, 8, 8, 16)
    >>> nn.output_shape(nn.parallel(nn.conv(2, 1), nn.conv(4, 3)), (1, 8, 8, 16))
    ((1, 8, 8, 2), (1, 8, 8, 4))
    """
    members = _several("nn.parallel", branches)
    if join is not None:
        arguments.called("nn.parallel", "join", join, "a function of the outputs")

    def joined(x, *outputs):
        return outputs if join is None else join(*outputs)

    return _branching("parallel", members, lambda x, *outputs: None, joined)


@layer_maker
def concatenate(*branches: LayerLike, axis: int = -1) -> Layer:
    """Several layers that have the same input, and what comes out of them joined along the channels.

        y = [branch_1(x), ..., branch_B(x)]

    Args:
        branches: layers and functions of an array, which are called as those of `sequential`.
        axis: along which they are joined, not that of the batch.

    Returns:
        A layer with params {"conv1": ..., "sequential1": ...}, and state likewise; no entry for what has no parameters.

    Raises:
        TypeError: a branch is neither a layer nor a function.
        ValueError: there is no branch, or two have the same name; from init and apply if what comes out of the branches
            has no such axis, or that is the batch's, or differs in shape along the others.

    Source: Szegedy et al., Going deeper with convolutions, 2015.

    >>> from jaxcnn import nn
    >>> block = nn.concatenate(nn.conv(8, 1), nn.conv(16, 3), nn.sequential(nn.conv(2, 1), nn.conv(4, 5)))
    >>> nn.output_shape(block, (1, 8, 8, 3))
    (1, 8, 8, 28)
    """
    members = _several("nn.concatenate", branches)
    axis = arguments.integer("nn.concatenate", "axis", axis)

    def check(x, *outputs):
        (counted,) = arguments.axes("nn.concatenate", "axis", axis, len(outputs[0]))
        arguments.require(counted > 0, "nn.concatenate", "axis", "another one than that of the batch", axis)
        same = len({_erase_axis(axis, y) for y in outputs}) == 1
        got = "output shapes " + ", ".join(str(list(y)) for y in outputs)
        arguments.require(same, "nn.concatenate", "branches", f"of one output shape but for axis {axis}", got)

    return _branching("concatenate", members, check, lambda x, *outputs: jnp.concatenate(outputs, axis))


@layer_maker
def skip(inner: LayerLike, *, crop: bool = False) -> Layer:
    """A layer whose input goes on beside its output: the skip connection of a U-Net, and of DenseNet.

        y = [x, inner(x)], joined along the channels

    A U-Net is `skip` within `skip`: the inner layer goes down to half the resolution, where there is the next one, and
    up again.

    Args:
        inner: a layer or a function of an array.
        crop: cuts x to the middle of the spatial shape that comes out of inner, where convolutions without padding have
            made that smaller.

    Returns:
        A layer with params {"inner": ...}, and state likewise; no entry for what has no parameters.

    Raises:
        TypeError: inner is neither a layer nor a function, crop is no bool.
        ValueError: from init and apply if input and output of inner differ in more than the channels.

    Source: Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, 2015.

    >>> from jaxcnn import nn
    >>> level = nn.skip(nn.sequential(nn.max_pool(2), nn.conv(16, 3), nn.conv_transpose(8, 2, stride=2)))
    >>> nn.output_shape(level, (1, 28, 28, 8))
    (1, 28, 28, 16)
    """
    members = {"inner": checked_layer("nn.skip", "inner", inner)}
    crop = arguments.flag("nn.skip", "crop", crop)

    def check(x, y):
        fits = len(x) == len(y) and all(n == m or (crop and n > m) for n, m in zip(x[:-1], y[:-1], strict=True))
        expected = f"of an output shape that is {list(x)} but for the channels" + (", or less" if crop else "")
        arguments.require(fits, "nn.skip", "inner", expected, f"output shape {list(y)}")

    def join(x, y):
        starts = [(n - m) // 2 for n, m in zip(x.shape[1:-1], y.shape[1:-1], strict=True)]
        middle = [slice(start, start + m) for start, m in zip(starts, y.shape[1:-1], strict=True)]
        return jnp.concatenate([x[:, *middle], y], -1)

    return _branching("skip", members, check, join)


def _branching(name: str, members: dict[str, Layer], check: Callable[..., None], join: Callable[..., Any]) -> Layer:
    """The layer y = join(x, member_1(x), ..., member_B(x)); check sees the shapes of the same."""

    def init(key, input_shape):
        arguments.random_key(f"nn.{name}", key)
        params, state = {}, {}
        outputs = [
            init_member(i, member, layer, key, input_shape, params, state)
            for i, (member, layer) in enumerate(members.items())
        ]
        check(tuple(input_shape), *outputs)
        return params, state

    def apply(params, state, x, *, train=False, key=None):
        check_trees(f"nn.{name}", params, state, members)
        new_state = {}
        outputs = [
            apply_member(i, member, layer, params, state, new_state, x, train, key, x)
            for i, (member, layer) in enumerate(members.items())
        ]
        check(x.shape, *shapes_of(outputs))
        return join(x, *outputs), new_state

    def parts(input_shape):
        return [(member, layer, input_shape) for member, layer in members.items()]

    return Layer(init, knowing(apply, *members.values()), name, parts)


def _several(function, branches):
    arguments.require(len(branches) > 0, function, "branches", "at least one", "none")
    return named_members(function, "branches", branches)


def _erase_axis(axis, shape):
    """The shape with 0 along one axis, whose entry does not count."""
    return tuple(0 if i == axis % len(shape) else n for i, n in enumerate(shape))
