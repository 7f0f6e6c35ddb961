"""The lecture's worked examples, one test for each, entry by entry: the partial derivatives are typed in as it lists
them. Each docstring begins with the title of the slide.

The maps have the lecture's sizes: a 3x3 input with the entries x_1 to x_9 in row-major order, a 2x2 filter or window,
and an output z_1 to z_4, whose gradient has four different entries, so that no two of them can be confused.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import jaxcnn

X = x1, x2, x3, x4, x5, x6, x7, x8, x9 = 2.0, -3.0, 5.0, 7.0, -11.0, 13.0, 17.0, -19.0, 23.0
W = w1, w2, w3, w4 = 0.5, -1.5, 2.5, 4.5
DZ = dz1, dz2, dz3, dz4 = 1.0, 10.0, -100.0, 1000.0
PAD_ONE = ((1, 1), (1, 1))


def feature_map(*entries):
    """The entries of a square map, as one image of one channel [1, n, n, 1]."""
    n = round(len(entries) ** 0.5)
    return jnp.array(entries).reshape(1, n, n, 1)


def filter_array(*entries):
    return feature_map(*entries).reshape(2, 2, 1, 1)


def gradients(f, dz, *args):
    """The gradients of the loss with respect to `args`, from that with respect to f(*args)."""
    return jax.jit(lambda dz, *args: jax.vjp(f, *args)[1](dz))(dz, *args)


def assert_same_function(f, g, shape, *args):
    """f and g have the same value, of that shape, and the same gradients."""
    dz = np.random.default_rng(0).standard_normal(shape)
    for got, expected in zip([f(*args), *gradients(f, dz, *args)], [g(*args), *gradients(g, dz, *args)], strict=True):
        equal(got, expected)


def equal(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def slide(x, w):
    """Conv(X | W) of a matrix as the lecture draws it: the filter slides over the map, no padding, stride one."""
    (n, m), (k, j) = x.shape, w.shape
    return np.array([[np.sum(x[a : a + k, b : b + j] * w) for b in range(m - j + 1)] for a in range(n - k + 1)])


def reverse(w):
    """W̌: W reversed up-to-down and left-to-right."""
    return w[::-1, ::-1]


def valid_conv(x, w):
    return jaxcnn.conv(x, w, padding="VALID")


def conv_gradients(x, w, dz):
    """(dx, dw) through the rule of `conv`; the two public formulas have to give the same."""
    dx, dw = gradients(valid_conv, dz, x, w)
    equal(jaxcnn.conv_input_grad(dz, w, x.shape, padding="VALID"), dx)
    equal(jaxcnn.conv_filter_grad(x, dz, w.shape, padding="VALID"), dw)
    return dx, dw


def test_backward_pass_reverses_the_flattening():
    """Backward Pass: "we sort the gradient in a tensor by reversing the flattening"."""
    y, w, dz = feature_map(*X), jnp.arange(1.0, 19.0).reshape(9, 2), jnp.array([[3.0, 100.0]])
    (dy,) = gradients(lambda y: jaxcnn.dense(jaxcnn.flatten(y), w), dz, y)
    equal(dy, feature_map(*(w[i, 0] * 3.0 + w[i, 1] * 100.0 for i in range(9))))


# y_2 is the maximum of windows 1 and 2, y_7 that of window 3, y_9 that of window 4.
MAX_INPUT = feature_map(1.0, 9.0, 2.0, 3.0, 0.0, 4.0, 8.0, 5.0, 7.0)


def max_pool(y):
    return jaxcnn.max_pool(y, 2, stride=1)


def test_max_pooling():
    """Backpropagation: Max-Pooling."""
    equal(max_pool(MAX_INPUT), feature_map(9.0, 9.0, 8.0, 7.0))
    (dy,) = gradients(max_pool, feature_map(*DZ), MAX_INPUT)
    equal(dy, feature_map(0, dz1 + dz2, 0, 0, 0, 0, dz3, 0, dz4))


def test_max_pooling_multiplies_each_derivative_with_its_filter():
    """Backpropagation: Max-Pooling: "each derivative in green map gets multiplied with its filter and added"."""
    filters = [[[0, 1], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]]
    (dy,) = gradients(max_pool, feature_map(*DZ), MAX_INPUT)
    equal(dy[0, :, :, 0], add_filters(filters))


def add_filters(filters):
    """A 3x3 map: filter i times dz_i, added where window i is."""
    blue = np.zeros((3, 3))
    for i, (dz, entries) in enumerate(zip(DZ, filters, strict=True)):
        row, column = divmod(i, 2)
        blue[row : row + 2, column : column + 2] += dz * np.array(entries)
    return blue


def mean_pool(y):
    return jaxcnn.mean_pool(y, 2, stride=1)


def test_mean_pooling():
    """Backward Pass: Mean-Pooling."""
    equal(
        mean_pool(feature_map(*X)),
        feature_map((x1 + x2 + x4 + x5) / 4, (x2 + x3 + x5 + x6) / 4, (x4 + x5 + x7 + x8) / 4, (x5 + x6 + x8 + x9) / 4),
    )
    (dy,) = gradients(mean_pool, feature_map(*DZ), feature_map(*X))
    expected = (
        1 / 4 * dz1,
        1 / 4 * dz1 + 1 / 4 * dz2,
        1 / 4 * dz2,
        1 / 4 * dz1 + 1 / 4 * dz3,
        1 / 4 * dz1 + 1 / 4 * dz2 + 1 / 4 * dz3 + 1 / 4 * dz4,
        1 / 4 * dz2 + 1 / 4 * dz4,
        1 / 4 * dz3,
        1 / 4 * dz3 + 1 / 4 * dz4,
        1 / 4 * dz4,
    )
    equal(dy, feature_map(*expected))


def test_mean_pooling_multiplies_each_derivative_with_a_fixed_filter():
    """Backward Pass: Mean-Pooling: "it has same visualization: the filter is however this time fixed"."""
    (dy,) = gradients(mean_pool, feature_map(*DZ), feature_map(*X))
    equal(dy[0, :, :, 0], add_filters([np.full((2, 2), 1 / 4)] * 4))


def test_mean_pooling_backward_is_a_convolution():
    """Backward Pass: Mean-Pooling: "in fact, this is simply a convolution"."""
    (dy,) = gradients(mean_pool, feature_map(*DZ), feature_map(*X))
    equal(dy, jaxcnn.conv(feature_map(*DZ), filter_array(*[1 / 4] * 4), padding=PAD_ONE))
    equal(dy[0, :, :, 0], slide(np.pad(np.reshape(DZ, (2, 2)), 1), np.full((2, 2), 1 / 4)))


def test_pooling_with_weights():
    """Big Picture: "if we use advanced pooling with weights; then, we should find them as well"."""
    y, w = feature_map(*X), jnp.array(W).reshape(2, 2)
    dy, dw = gradients(lambda y, w: jaxcnn.weighted_pool(y, w, stride=1), feature_map(*DZ), y, w)
    equal(dy[0, :, :, 0], add_filters([w] * 4))
    equal(
        dw.ravel(),
        [
            x1 * dz1 + x2 * dz2 + x4 * dz3 + x5 * dz4,
            x2 * dz1 + x3 * dz2 + x5 * dz3 + x6 * dz4,
            x4 * dz1 + x5 * dz2 + x7 * dz3 + x8 * dz4,
            x5 * dz1 + x6 * dz2 + x8 * dz3 + x9 * dz4,
        ],
    )


ACTIVATIONS = {
    "relu": lambda z: z > 0,
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    """Backpropagation through Convolution: Activation: the gradient for Z is that for Y times f'(Z), entry by entry."""
    z = np.linspace(-2.0, 2.0, 9).reshape(1, 3, 3, 1)
    dy = np.arange(1.0, 10.0).reshape(z.shape)
    (dz,) = gradients(getattr(jaxcnn, name), dy, z)
    equal(dz, dy * ACTIVATIONS[name](z))


def test_convolution_input():
    """Backpropagation: 2D Convolution, the nine partial derivatives."""
    equal(
        valid_conv(feature_map(*X), filter_array(*W)),
        feature_map(
            w1 * x1 + w2 * x2 + w3 * x4 + w4 * x5,
            w1 * x2 + w2 * x3 + w3 * x5 + w4 * x6,
            w1 * x4 + w2 * x5 + w3 * x7 + w4 * x8,
            w1 * x5 + w2 * x6 + w3 * x8 + w4 * x9,
        ),
    )
    dx, _ = conv_gradients(feature_map(*X), filter_array(*W), feature_map(*DZ))
    expected = (
        w1 * dz1,
        w2 * dz1 + w1 * dz2,
        w2 * dz2,
        w3 * dz1 + w1 * dz3,
        w4 * dz1 + w3 * dz2 + w2 * dz3 + w1 * dz4,
        w4 * dz2 + w2 * dz4,
        w3 * dz3,
        w4 * dz3 + w3 * dz4,
        w4 * dz4,
    )
    equal(dx, feature_map(*expected))


def test_convolution_input_multiplies_each_derivative_with_the_filter():
    """Backpropagation: 2D Convolution: "we can use the same visualization as in pooling"."""
    dx, _ = conv_gradients(feature_map(*X), filter_array(*W), feature_map(*DZ))
    equal(dx[0, :, :, 0], add_filters([np.reshape(W, (2, 2))] * 4))


def test_convolution_input_is_a_convolution_with_the_reversed_filter():
    """Backpropagation through 2D Convolution: the gradient for X is Conv(dZ | W̌), with zero-padding."""
    dx, _ = conv_gradients(feature_map(*X), filter_array(*W), feature_map(*DZ))
    equal(dx, jaxcnn.conv(feature_map(*DZ), filter_array(w4, w3, w2, w1), padding=PAD_ONE))
    equal(dx[0, :, :, 0], slide(np.pad(np.reshape(DZ, (2, 2)), 1), reverse(np.reshape(W, (2, 2)))))


def test_convolution_filter():
    """Backpropagation: Convolution Filter, the four partial derivatives."""
    _, dw = conv_gradients(feature_map(*X), filter_array(*W), feature_map(*DZ))
    expected = (
        x1 * dz1 + x2 * dz2 + x4 * dz3 + x5 * dz4,
        x2 * dz1 + x3 * dz2 + x5 * dz3 + x6 * dz4,
        x4 * dz1 + x5 * dz2 + x7 * dz3 + x8 * dz4,
        x5 * dz1 + x6 * dz2 + x8 * dz3 + x9 * dz4,
    )
    equal(dw, filter_array(*expected))


def test_convolution_filter_is_a_convolution_with_the_output_gradient():
    """Gradient w.r.t. Filters: the gradient for W is Conv(X | dZ)."""
    _, dw = conv_gradients(feature_map(*X), filter_array(*W), feature_map(*DZ))
    equal(dw[..., 0, 0], valid_conv(feature_map(*X), filter_array(*DZ))[0, :, :, 0])
    equal(dw[..., 0, 0], slide(np.reshape(X, (3, 3)), np.reshape(DZ, (2, 2))))


def multi_channel(filters):
    """X with C = 3 channels [1, 4, 5, C], filters [2, 3, C, K] and dZ [1, 3, 3, K], all entries random."""
    rng = np.random.default_rng(filters)
    return (rng.standard_normal(shape) for shape in ((1, 4, 5, 3), (2, 3, 3, filters), (1, 3, 3, filters)))


def zero_padded(dz):
    """The map dZ with as many zeros as make its convolution with a 2x3 filter as large as the input."""
    return np.pad(dz, [(1, 1), (2, 2)])


def test_multi_channel_convolution_with_one_output_map():
    """Backpropagation through 2D Convolution, C channels: channel c of the gradient for X is Conv(dZ | W̌[c])."""
    x, w, dz = multi_channel(filters=1)
    equal(valid_conv(x, w)[0, :, :, 0], sum(slide(x[0, :, :, c], w[:, :, c, 0]) for c in range(3)))
    dx, dw = conv_gradients(x, w, dz)
    for c in range(3):
        equal(dx[0, :, :, c], slide(zero_padded(dz[0, :, :, 0]), reverse(w[:, :, c, 0])))
        equal(dw[:, :, c, 0], slide(x[0, :, :, c], dz[0, :, :, 0]))


def test_multi_channel_convolution():
    """Backpropagation: Multi-Channel Convolution: the gradient for X is the sum over k of [Conv(dZ[k] | W̌_k[c])]_c."""
    x, w, dz = multi_channel(filters=4)
    dx, _ = conv_gradients(x, w, dz)
    for k in range(4):
        equal(valid_conv(x, w)[0, :, :, k], sum(slide(x[0, :, :, c], w[:, :, c, k]) for c in range(3)))
    for c in range(3):
        equal(dx[0, :, :, c], sum(slide(zero_padded(dz[0, :, :, k]), reverse(w[:, :, c, k])) for k in range(4)))


def test_multi_channel_convolution_with_the_rearranged_filters():
    """Backpropagation through Multi-Channel Convolution: the gradient for X[c] is Conv(dZ | W†_c)."""
    x, w, dz = multi_channel(filters=4)
    dx, _ = conv_gradients(x, w, dz)
    w_dagger = [np.stack([reverse(w[:, :, c, k]) for k in range(4)], axis=-1) for c in range(3)]
    for c in range(3):
        equal(dx[0, :, :, c], sum(slide(zero_padded(dz[0, :, :, k]), w_dagger[c][:, :, k]) for k in range(4)))
    equal(dx, jaxcnn.conv(dz, np.stack(w_dagger, axis=-1), padding=((1, 1), (2, 2))))


def test_gradient_of_channel_c_in_filter_k():
    """Backpropagation through Convolution: Summary: "convolve channel c of input with channel k of output gradient"."""
    x, w, dz = multi_channel(filters=4)
    _, dw = conv_gradients(x, w, dz)
    for c in range(3):
        for k in range(4):
            equal(dw[:, :, c, k], slide(x[0, :, :, c], dz[0, :, :, k]))


def test_convolutional_layer():
    """Backpropagation through Convolution: Summary: the derivative of the activation, then the rearranged filters."""
    x, w, dy = multi_channel(filters=4)
    dx, dw = gradients(lambda x, w: jaxcnn.relu(valid_conv(x, w)), dy, x, w)
    expected_dx, expected_dw = conv_gradients(x, w, np.where(valid_conv(x, w) > 0, dy, 0.0))
    equal(dx, expected_dx)
    equal(dw, expected_dw)


def test_downsampling():
    """Backpropagation: Downsampling."""
    equal(jaxcnn.downsample(feature_map(*X), 2), feature_map(x1, x3, x7, x9))
    (dx,) = gradients(lambda x: jaxcnn.downsample(x, 2), feature_map(*DZ), feature_map(*X))
    equal(dx, feature_map(dz1, 0, dz2, 0, 0, 0, dz3, 0, dz4))
    equal(dx, jaxcnn.upsample(feature_map(*DZ), 2))


def test_upsampling():
    """Backpropagation: Upsampling. X is 2x2 and Z is 3x3 here."""
    equal(jaxcnn.upsample(feature_map(*W), 2), feature_map(w1, 0, w2, 0, 0, 0, w3, 0, w4))
    (dx,) = gradients(lambda x: jaxcnn.upsample(x, 2), feature_map(*X), feature_map(*W))
    equal(dx, feature_map(x1, x3, x7, x9))
    equal(dx, jaxcnn.downsample(feature_map(*X), 2))


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "padding"),
    [
        ((2, 9, 3), (4, 3, 2), (2,), "CAUSAL"),
        ((2, 3, 3, 1), (2, 2, 1, 1), (2, 2), "VALID"),
        ((3, 7, 8, 2), (3, 2, 2, 4), (3, 4), "SAME"),
        ((1, 4, 6, 5, 3), (2, 3, 1, 3, 2), (1, 2, 3), "SAME_LOWER"),
    ],
    ids=["1D", "lecture", "2D", "3D"],
)
def test_stride_is_a_convolution_and_downsampling(x_shape, w_shape, stride, padding):
    """Backpropagation: Resampling: a stride is the convolution with stride 1, then the resampling unit."""
    rng, filters = np.random.default_rng(0), w_shape[-1]
    args = [rng.standard_normal(shape) for shape in (x_shape, w_shape, (filters,))]
    pads = oracles.resolve_padding(padding, x_shape[1:-1], w_shape[:-2], stride, (1,) * len(stride))
    shape = oracles.outputs(x_shape[1:-1], w_shape[:-2], stride, pads, (1,) * len(stride))
    assert_same_function(
        jax.jit(lambda x, w, b: jaxcnn.conv(x, w, b, stride=stride, padding=padding)),
        jax.jit(lambda x, w, b: jaxcnn.downsample(jaxcnn.conv(x, w, b, padding=pads), stride)),
        (x_shape[0], *shape, filters),
        *args,
    )


@pytest.mark.parametrize("pool", [jaxcnn.max_pool, jaxcnn.mean_pool])
def test_pooling_stride_is_pooling_and_downsampling(pool):
    """Backpropagation: Resampling: "we can decompose them as convolution/pooling with stride 1 + a resampling unit"."""
    assert_same_function(
        jax.jit(lambda x: pool(x, (2, 3), stride=(3, 2))),
        jax.jit(lambda x: jaxcnn.downsample(pool(x, (2, 3), stride=1), (3, 2))),
        (2, 3, 2, 3),
        np.random.default_rng(1).standard_normal((2, 8, 6, 3)),
    )


@pytest.mark.parametrize("image", [(7,), (5, 6), (4, 3, 5)], ids=["1D", "2D", "3D"])
def test_other_forms_of_convolution(image):
    """Other Forms of Convolution: in every number of directions the filter is reversed in all of them; depth-wise the
    channels do not mix."""
    rng, all_axes = np.random.default_rng(2), tuple(range(len(image)))
    x, w = rng.standard_normal((1, *image, 2)), rng.standard_normal((*(2,) * len(image), 1, 2))
    z, backward = jax.vjp(lambda x, w: jaxcnn.depthwise_conv(x, w, padding="VALID"), x, w)
    dz = rng.standard_normal(z.shape)
    dx, dw = backward(dz)
    for c in range(2):
        one, channel = slice(c, c + 1), np.s_[..., c : c + 1]
        equal(z[channel], valid_conv(x[channel], w[channel]))
        equal(dx[channel], jaxcnn.conv(dz[channel], np.flip(w[..., one], all_axes), padding=1))
        equal(dw[..., 0, c], valid_conv(x[channel], dz[0, ..., one, None])[0, ..., 0])
