"""Checks of the arguments that normalisations have in common."""

from jaxcnn.contract import arguments


def checked(function, x, gamma, beta, eps):
    """The checked arguments of a norm with one gamma and one beta per channel."""
    (x,) = arguments.floating(function, x=x)
    gamma, beta = arguments.floating(function, gamma=gamma, beta=beta)
    arguments.require(x.ndim >= 2, function, "x", "[N, *S, C] or [N, C]", arguments.describe(x))
    arguments.vector(function, "gamma", gamma, x.shape[-1])
    arguments.vector(function, "beta", beta, x.shape[-1])
    return x, gamma, beta, arguments.number(function, "eps", eps, 0)


def checked_along(function, x, axes, **parameters):
    """x, the axes counted from the front, and the parameters along them with length 1 along the others."""
    (x,) = arguments.floating(function, x=x)
    axes = arguments.axes(function, "axes", axes, x.ndim)
    lengths = tuple(x.shape[axis] for axis in axes)
    arrays = arguments.floating(function, **parameters)
    for name, array in zip(parameters, arrays, strict=True):
        expected = f"of the shape {list(lengths)} that x has along the axes {axes}"
        arguments.require(array.shape == lengths, function, name, expected, arguments.describe(array))
    shape = tuple(n if axis in axes else 1 for axis, n in enumerate(x.shape))
    return x, axes, *(array.reshape(shape) for array in arrays)
