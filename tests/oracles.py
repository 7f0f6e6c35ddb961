"""The ops and their gradients as loops in NumPy, written from the sums of the lecture: slow, with no JAX and no formula
of a backward pass in it. A gradient is the chain rule, one term of the sum after the other.

Each op returns what `jax.vjp` returns: the value, and the function that takes the gradient of the output to those of
the arguments. A geometry is an image, the size of a window, stride, padding as pairs (low, high), and dilation; one
entry per axis.
"""

import itertools

import numpy as np


def resolve_padding(padding, image, size, stride, dilation):
    """`padding` in any of its forms as pairs (low, high), found by trying, not by a formula."""
    if isinstance(padding, int):
        return [(padding, padding)] * len(image)
    if not isinstance(padding, str):
        return list(padding)
    reach = [d * (k - 1) for k, d in zip(size, dilation, strict=True)]
    if padding == "VALID":
        return [(0, 0) for _ in image]
    if padding == "CAUSAL":
        return [(r, 0) for r in reach]
    pairs = []
    for n, k, s, d in zip(image, size, stride, dilation, strict=True):
        wanted = len(range(0, n, s))
        zeros = next(z for z in itertools.count() if len(starts(n, k, s, (0, z), d)) >= wanted)
        less, more = sorted([zeros // 2, (zeros + 1) // 2])
        pairs.append({"SAME": (less, more), "SAME_LOWER": (more, less)}[padding])
    return pairs


def starts(n, k, s, pad, d):
    """Where in an image of n entries each window begins, along one axis."""
    low, high = pad
    return range(-low, n + high - d * (k - 1), s)


def outputs(image, size, stride, pads, dilation):
    """How many windows there are along each axis."""
    return tuple(map(len, map(starts, image, size, stride, pads, dilation)))


def windows(image, size, stride, pads, dilation):
    """(i, entries) of each window: its index, and (k, p) for each of its entries that lies inside the image, in
    row-major order: which entry of the window it is, and where in the image."""
    axes = list(map(starts, image, size, stride, pads, dilation))
    for i in np.ndindex(*map(len, axes)):
        entries = []
        for k in np.ndindex(*size):
            p = tuple(axis[a] + d * b for axis, a, d, b in zip(axes, i, dilation, k, strict=True))
            if all(0 <= place < n for place, n in zip(p, image, strict=True)):
                entries.append((k, p))
        yield i, entries


def conv(x, w, b=None, *, stride, pads, dilation, groups=1):
    """Z[k] = Σ_c Conv(X[c] | W_k[c]) + b[k], filter k seeing the channels of its group."""
    size, (channels, filters) = w.shape[:-2], w.shape[-2:]
    geometry = x.shape[1:-1], size, stride, pads, dilation
    terms = [
        ((n, *i, o), (n, *p, o // (filters // groups) * channels + c), (*k, c, o))
        for i, entries in windows(*geometry)
        for k, p in entries
        for n, c, o in np.ndindex(len(x), channels, filters)
    ]
    z, products_backward = _sum_of_products(x, w, (len(x), *outputs(*geometry), filters), terms)
    if b is None:
        return z, products_backward

    def backward(dz):
        db = np.zeros(b.shape)
        for a in np.ndindex(*dz.shape):
            db[a[-1]] += dz[a]
        return *products_backward(dz), db

    return z + b, backward


def weighted_pool(x, w, *, stride, pads):
    """Each window of each channel times the weights [*K, C], or [*K] for all channels."""
    shared = w.ndim == x.ndim - 2
    size, channels = w.shape[: x.ndim - 2], x.shape[-1]
    geometry = x.shape[1:-1], size, stride, pads, (1,) * len(size)
    terms = [
        ((n, *i, c), (n, *p, c), k if shared else (*k, c))
        for i, entries in windows(*geometry)
        for k, p in entries
        for n, c in np.ndindex(len(x), channels)
    ]
    return _sum_of_products(x, w, (len(x), *outputs(*geometry), channels), terms)


def _sum_of_products(x, w, shape, terms):
    """z[a] = Σ x[b] w[c] over the terms (a, b, c): each of them adds dz[a] w[c] to dx[b] and dz[a] x[b] to dw[c]."""
    z = np.zeros(shape)
    for a, b, c in terms:
        z[a] += x[b] * w[c]

    def backward(dz):
        dx, dw = np.zeros(x.shape), np.zeros(w.shape)
        for a, b, c in terms:
            dx[b] += dz[a] * w[c]
            dw[c] += dz[a] * x[b]
        return dx, dw

    return z, backward


def mean_pool(x, size, *, stride, pads):
    """The sum of each window by the number of its entries, those in the padding included."""
    y, backward = weighted_pool(x, np.full(size, 1 / np.prod(size)), stride=stride, pads=pads)
    return y, lambda dy: backward(dy)[:1]


def max_pool(x, size, *, stride, pads):
    """The largest entry of each window, a NaN before all, the first of those that tie; only entries of x."""
    geometry = x.shape[1:-1], size, stride, pads, (1,) * len(size)
    y, winners = np.zeros((len(x), *outputs(*geometry), x.shape[-1])), []
    for i, entries in windows(*geometry):
        for n, c in np.ndindex(len(x), x.shape[-1]):
            places = [(n, *p, c) for _, p in entries]
            winner = places[0]
            for place in places:
                if x[place] > x[winner] or np.isnan(x[place]) > np.isnan(x[winner]):
                    winner = place
            y[(n, *i, c)] = x[winner]
            winners.append(((n, *i, c), winner))

    def backward(dy):
        dx = np.zeros(x.shape)
        for a, winner in winners:
            dx[winner] += dy[a]
        return (dx,)

    return y, backward


def downsample(x, factor):
    """Z[i] = X[S i]."""
    shape = [len(range(0, n, f)) for n, f in zip(x.shape[1:-1], factor, strict=True)]
    return _select(x, factor, (len(x), *shape, x.shape[-1]), lambda z, x: (z, x))


def upsample(x, factor, shape):
    """Z[S i] = X[i], and zero elsewhere."""
    return _select(x, factor, (len(x), *shape, x.shape[-1]), lambda z, x: (x, z))


def _select(x, factor, shape, small_and_large):
    """z[a] = x[b] for the pairs where, in the large one of the two, the small one's index is multiplied by `factor`."""
    z = np.zeros(shape)
    step = (1, *factor, 1)
    small, _ = small_and_large(z, x)
    pairs = [small_and_large(i, tuple(map(int.__mul__, i, step))) for i in np.ndindex(*small.shape)]
    for a, b in pairs:
        z[a] = x[b]

    def backward(dz):
        dx = np.zeros(x.shape)
        for a, b in pairs:
            dx[b] += dz[a]
        return (dx,)

    return z, backward
