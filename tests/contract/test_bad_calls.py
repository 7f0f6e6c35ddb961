"""Bad input fails before anything is compiled, in one sentence: function, argument, expected, got."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn as jc

x = np.zeros((2, 5, 4, 6), np.float32)
w = np.zeros((3, 2, 6, 8), np.float32)
dy = np.zeros((2, 5, 4, 8), np.float32)
row = np.zeros((2, 6), np.float32)
c6, c8 = np.zeros(6, np.float32), np.zeros(8, np.float32)
classes = np.zeros(2, np.int32)
abstract = jax.ShapeDtypeStruct(x.shape, x.dtype)


def key():
    return jax.random.key(0)


BAD_CALLS = [
    # what is not a floating-point array
    (lambda: jc.conv([1.0], w), TypeError, "conv: x must be a floating-point array, got list [1.0]"),
    (lambda: jc.relu([row, row]), TypeError, "relu: z must be a floating-point array, got list [array([[0., 0., 0., "),
    (lambda: jc.relu([0.5] * 99), TypeError, f"got list [{'0.5, ' * 19}0..."),
    (lambda: jc.conv(3.0, w), TypeError, "conv: x must be a floating-point array, got float 3.0"),
    (
        lambda: jc.conv(x.astype(np.uint8), w),
        TypeError,
        "conv: x must be a floating-point array, got uint8[2, 5, 4, 6]",
    ),
    (lambda: jc.conv(x.astype(complex), w), TypeError, "conv: x must be a floating-point array, got complex"),
    (lambda: jc.relu(np.array(["a"])), TypeError, "relu: z must be a floating-point array, got <U1[1]"),
    (lambda: jc.conv(x.astype(object), w), TypeError, "conv: x must be a floating-point array, got object[2, 5, 4, 6]"),
    (lambda: jc.conv(x, jax.ShapeDtypeStruct(w.shape, w.dtype)), TypeError, "conv: w must be a floating-point array, "),
    (lambda: jc.conv(x, w.astype(int)), TypeError, "conv: w must be a floating-point array, got int"),
    (lambda: jc.conv(x, w, True), TypeError, "conv: b must be a floating-point array, got bool True"),
    (lambda: jc.max_pool(x.astype(np.int32), 2), TypeError, "max_pool: x must be a floating-point array, got int32"),
    (lambda: jc.relu(classes), TypeError, "relu: z must be a floating-point array, got int32[2]"),
    (lambda: jc.softmax("logits"), TypeError, "softmax: z must be a floating-point array, got str 'logits'"),
    (lambda: jc.dense(None, row), TypeError, "dense: x must be a floating-point array, got NoneType None"),
    (lambda: jc.dropout(key(), classes, 0.5), TypeError, "dropout: x must be a floating-point array, got int32[2]"),
    (lambda: jc.l2_penalty({"n": classes}), TypeError, "l2_penalty: params must be a floating-point array, got int32"),
    # dtypes that disagree
    (lambda: jc.conv(x, w.astype(np.float16)), TypeError, "conv: w must be float32 as x is, got float16[3, 2, 6, 8]"),
    (lambda: jc.dense(row, row.T.astype(np.float16)), TypeError, "dense: w must be float32 as x is, got float16[6, 2]"),
    (lambda: jc.prelu(x, c6.astype(np.float16)), TypeError, "prelu: a must be float32 as z is, got float16[6]"),
    (lambda: jc.mean_squared_error(c6, c6.astype(np.float16)), TypeError, "target must be float32 as y is"),
    (
        lambda: jc.softmax_cross_entropy(row, row.astype(np.float16)),
        TypeError,
        "labels must be an array of integers or",
    ),
    (lambda: jc.softmax(x, axis="last"), TypeError, "softmax: axis must be an int or several ints, got str 'last'"),
    (
        lambda: jc.log_softmax(x, axis=4),
        ValueError,
        "log_softmax: axis must be one or several different axes of an array that has 4",
    ),
    (lambda: jc.layer_norm(x, c6, c6, where=x), TypeError, "layer_norm: where must be an array of bools, got float32"),
    (
        lambda: jc.batch_norm(x, c6, c6, where=x[..., 0] > 0),
        ValueError,
        "batch_norm: where must be bools that broadcast to the shape [2, 5, 4, 6] of x, got bool[2, 5, 4]",
    ),
    (lambda: jc.batch_norm(x, c6, c6, axis_name=0), TypeError, "batch_norm: axis_name must be the name of a mesh axis"),
    # ranks and shapes
    (lambda: jc.conv(row, w), ValueError, "conv: x must be [N, *S, C] with at least 3 axes, got shape [2, 6]"),
    (
        lambda: jc.conv(x, w[0]),
        ValueError,
        "conv: w must be [*K, C/groups, O] with 4 axes as x [2, 5, 4, 6] has, got shape [2, 6, 8]",
    ),
    # the argument that the user gave
    (lambda: jc.conv_input_grad(dy, w, ()), ValueError, "conv_input_grad: x_shape must be [N, *S, C] with at least 3"),
    (
        lambda: jc.conv_input_grad(dy, w, (2, 5, 6)),
        ValueError,
        "conv_input_grad: x_shape must be [N, *S, C] with 4 axes",
    ),
    (lambda: jc.conv(x, w, dilation=2**30), ValueError, "conv: dilation must be such that padding 'SAME' has fewer"),
    (
        lambda: jc.mean_pool(x, 2**30, padding="SAME"),
        ValueError,
        "window must be such that padding 'SAME' has fewer th",
    ),
    (lambda: jc.max_pool(x, 2, dilation=9), ValueError, "a window that spans [10, 10] with the dilation (9, 9)"),
    (
        lambda: jc.conv_transpose(dy, w, dilation=2**60),
        ValueError,
        "conv_transpose: dilation must be for a result of fe",
    ),
    (
        lambda: jc.conv_transpose(dy, w, padding=-(2**60)),
        ValueError,
        "conv_transpose: padding must be for a result of fe",
    ),
    (
        lambda: jc.upsample(x, 2**60),
        ValueError,
        "upsample: factor must be for a result of fewer than 2^48 places on an",
    ),
    # no error of Python or XLA
    (lambda: jc.elu(x, 10**400), ValueError, "elu: alpha must be a finite number, got 1000"),
    (
        lambda: jc.batch_norm(x, c6, c6, axis_name="b"),
        NameError,
        "batch_norm: axis_name must be the name of an axis of",
    ),
    (
        lambda: jc.batch_norm(x, c6, c6, axis_name=(0,)),
        TypeError,
        "batch_norm: axis_name must be the name of a mesh axi",
    ),
    (
        lambda: jc.resize(x, 2, np.eye(2)),
        ValueError,
        "resize: method must be one of 'nearest', 'linear', got array([[1.,",
    ),
    (lambda: jc.dice(x, abstract), TypeError, "dice: labels must be an array of integers or of float32, got float32["),
    (lambda: jc.softmax(row, axis=None), TypeError, "softmax: axis must be an int or several ints, got NoneType None"),
    # what x has too much or too little of is said of x
    (
        lambda: jc.conv(x[0], w),
        ValueError,
        "conv: x must be [N, *S, C] with 4 axes as w [3, 2, 6, 8] has, got shape [5, 4, 6]: an image without the axis "
        "of its batch or of its channels?",
    ),
    (lambda: jc.conv_transpose(dy[..., 0], w), ValueError, "conv_transpose: x must be [N, *S, C] with 4 axes as w"),
    (lambda: jc.depthwise_conv(x[0], w[:, :, :1, :6]), ValueError, "depthwise_conv: x must be [N, *S, C] with 4 axes"),
    (lambda: jc.separable_conv(x[0], w[:, :, :1, :6], w), ValueError, "x must be [N, *S, C] with 4 axes as w_depth"),
    (
        lambda: jc.conv(np.moveaxis(x, -1, 1), w),
        ValueError,
        "conv: x must be [N, *S, 6], channels last, or w for 4 channels, got x [2, 6, 5, 4] and w [3, 2, 6, 8]",
    ),
    (lambda: jc.conv(np.moveaxis(x, -1, 1), w[:, :, :3], groups=2), ValueError, "channels last, or w for 4 channels"),
    (
        lambda: jc.conv_transpose(np.moveaxis(dy, -1, 1), w),
        ValueError,
        "[N, *S, 8], channels last",
    ),
    (lambda: jc.depthwise_conv(np.moveaxis(x, -1, 1), w[:, :, :1, :6]), ValueError, "6 channels: they are last in x"),
    # a key that does not come first
    (
        lambda: jc.dropout(x, key(), 0.5),
        TypeError,
        "dropout: key must be one JAX random key, got float32[2, 5",
    ),
    (lambda: jc.drop_block(x, key(), 0.5, 2), TypeError, ": the key comes first"),
    (lambda: jc.drop_path(x, rate=0.5, key=key()), TypeError, "drop_path: key must be one JAX random key, got float32"),
    (
        lambda: jc.dropout(x, 0.5),
        TypeError,
        "dropout: key must be one JAX random key, got float32[2, 5, 4, 6]: the key",
    ),
    (
        lambda: jc.stochastic_pool(x, 2, key=key()),
        TypeError,
        "stochastic_pool: key must be one JAX random key, got flo",
    ),
    (lambda: jc.stochastic_pool(x, key(), 2), TypeError, "stochastic_pool: key must be one JAX random key, got float3"),
    (lambda: jc.conv(x, w[:, :, :3]), ValueError, "C/groups = 6/1 = 6, got shape [3, 2, 3, 8]"),
    (lambda: jc.conv(x, w[:0]), ValueError, "conv: w must be of at least 1 entry per spatial axis, got shape [0, 2, 6"),
    (lambda: jc.conv_transpose(dy, w[:, :0]), ValueError, "conv_transpose: w must be of at least 1 entry per spatial"),
    (lambda: jc.conv_filter_grad(x, dy, (0, 2, 6, 8)), ValueError, "w_shape must be of at least 1 entry per spatial a"),
    (lambda: jc.weighted_pool(x, w[:0, :, 0, 0]), ValueError, "weighted_pool: w must be of at least 1 entry per spat"),
    (lambda: jc.conv(x, w, c6), ValueError, "conv: b must be one entry per channel, [8], got float32[6]"),
    (
        lambda: jc.depthwise_conv(x, w),
        ValueError,
        "depthwise_conv: w must be [*K, 1, C·m] with C = 6 as x [2, 5, 4, 6] has, got shape [3, 2, 6, 8]",
    ),
    (lambda: jc.depthwise_conv(row, w), ValueError, "depthwise_conv: x must be [N, *S, C]"),
    (
        lambda: jc.separable_conv(x, w[:, :, :1, :6], w),
        ValueError,
        "separable_conv: w_point must be [*1, C·m, O] with C·m",
    ),
    (
        lambda: jc.separable_conv(x, w[:, :, :1, :6], w[:1, :1, :5]),
        ValueError,
        "separable_conv: w_point must be [*1, C·m, O] with C·m = [6]",
    ),
    (lambda: jc.conv_transpose(row, w), ValueError, "conv_transpose: x must be [N, *S, C] with at least 3 axes"),
    (
        lambda: jc.conv_transpose(x, w),
        ValueError,
        "conv_transpose: w must be [*K, O/groups, C] with C = 6 as x",
    ),
    (lambda: jc.conv_transpose(dy, w, c8), ValueError, "conv_transpose: b must be one entry per channel, [6], got"),
    (lambda: jc.conv_transpose(dy, w, groups=3), ValueError, "groups must be a divisor of the 8 channels of x, got 3"),
    (
        lambda: jc.conv_transpose(dy, w, padding="SAME"),
        ValueError,
        "padding must be an int, 2 ints or 2 pairs (low, high), one",
    ),
    (lambda: jc.conv_transpose(dy, w, padding=9), ValueError, "conv_transpose: padding must be such that something is"),
    (
        lambda: jc.conv_transpose(dy, w, output_padding=-1),
        ValueError,
        "output_padding must be an int of at least 0, got",
    ),
    (lambda: jc.conv_input_grad(dy, w, (2, 7, 4, 6)), ValueError, "dy must be of the output's shape [2, 7, 4, 8]"),
    (lambda: jc.conv_input_grad(dy, w, "shape"), TypeError, "x_shape must be a shape, a tuple of ints, got str"),
    (lambda: jc.conv_filter_grad(x, dy, (3, 2, 6)), ValueError, "conv_filter_grad: w_shape must be [*K, C/groups, O]"),
    (lambda: jc.conv_filter_grad(x, dy, (3, 2, 6, 9)), ValueError, "dy must be of the output's shape [2, 5, 4, 9]"),
    (lambda: jc.max_pool(row, 2), ValueError, "max_pool: x must be [N, *S, C] with at least 3 axes, got float32[2, 6]"),
    (lambda: jc.downsample(row, 2), ValueError, "downsample: x must be [N, *S, C]"),
    (
        lambda: jc.weighted_pool(x, w),
        ValueError,
        "weighted_pool: w must be [*K, C] or [*K] with 2 spatial axes and C = 6",
    ),
    (lambda: jc.dense(row, row), ValueError, "dense: w must be [I, O] with I = 6 as x has, got float32[2, 6]"),
    (lambda: jc.dense(row, row.T, c6), ValueError, "dense: b must be one entry per channel, [2], got float32[6]"),
    (lambda: jc.flatten(np.float32(1)), ValueError, "flatten: x must be [N, ...] with at least 1 axis, got float32[]"),
    (lambda: jc.prelu(x, c8), ValueError, "prelu: a must be one slope [] or one per channel [6], got float32[8]"),
    (lambda: jc.log_softmax(np.float32(1)), ValueError, "log_softmax: z must be [..., K] with at least 1 axis"),
    (lambda: jc.batch_norm(c6, c6, c6), ValueError, "batch_norm: x must be [N, *S, C] or [N, C], got float32[6]"),
    (
        lambda: jc.batch_norm(x, c8, c6),
        ValueError,
        "batch_norm: gamma must be one entry per channel, [6], got float32[8]",
    ),
    (lambda: jc.batch_norm_inference(x, c6, c6, c8, c6), ValueError, "batch_norm_inference: mean must be one entry"),
    (
        lambda: jc.layer_norm(x, c8, c8),
        ValueError,
        "layer_norm: gamma must be of the shape [6] that x has along the axes (3,), got float32[8]",
    ),
    (lambda: jc.layer_norm(x, c6, c6, axes=(2, 3)), ValueError, "layer_norm: gamma must be of the shape [4, 6] that"),
    (
        lambda: jc.layer_norm(x, c6, c6, axes=4),
        ValueError,
        "axes must be one or several different axes of an array that has 4, got 4",
    ),
    (
        lambda: jc.layer_norm(x, c6, c6, axes=(3, -1)),
        ValueError,
        "axes must be one or several different axes of an array that has 4",
    ),
    (
        lambda: jc.layer_norm(x, c6, c6, axes=()),
        ValueError,
        "layer_norm: axes must be one or several different axes of an array",
    ),
    (
        lambda: jc.layer_norm(x, c6, c6, axes=1.0),
        TypeError,
        "layer_norm: axes must be an int or several ints, got float 1.0",
    ),
    (lambda: jc.layer_norm(x, c6, c6.astype(np.float16)), TypeError, "layer_norm: beta must be float32 as gamma is"),
    (
        lambda: jc.layer_norm(np.float32(1), c6, c6),
        ValueError,
        "axes must be one or several different axes of an array that has 0",
    ),
    (lambda: jc.rms_norm(x, c8), ValueError, "rms_norm: gamma must be of the shape [6] that x has along the axes (3,)"),
    (lambda: jc.rms_norm(x, c6, eps=-1), ValueError, "rms_norm: eps must be a finite number of at least 0, got -1"),
    (lambda: jc.group_norm(x, c6, c6, groups=4), ValueError, "groups must be a divisor of the 6 channels of x, got 4"),
    (lambda: jc.group_norm(x, c6, c6, groups=0), ValueError, "group_norm: groups must be an int of at least 1, got 0"),
    (lambda: jc.group_norm(x, c8, c6, groups=2), ValueError, "group_norm: gamma must be one entry per channel, [6]"),
    (lambda: jc.instance_norm(row, c6, c6), ValueError, "instance_norm: x must be [N, *S, C] with at least 3 axes"),
    (lambda: jc.instance_norm(x, c6, c8), ValueError, "instance_norm: beta must be one entry per channel, [6], got"),
    (
        lambda: jc.local_response_norm(x, size=0),
        ValueError,
        "local_response_norm: size must be an int of at least 1, got 0",
    ),
    (
        lambda: jc.local_response_norm(x, size=5, alpha=-1),
        ValueError,
        "alpha must be a finite number of at least 0, got -1",
    ),
    (
        lambda: jc.local_response_norm(x, size=5, beta="1"),
        TypeError,
        "beta must be a finite number of at least 0, got str",
    ),
    (
        lambda: jc.local_response_norm(x, size=5, k=-0.1),
        ValueError,
        "k must be a finite number of at least 0, got -0.1",
    ),
    (
        lambda: jc.local_response_norm(np.float32(1), size=5),
        ValueError,
        "x must be [..., C] with at least 1 axis, got float32[]",
    ),
    (lambda: jc.weight_norm(w, c6), ValueError, "weight_norm: g must be one entry per channel, [8], got float32[6]"),
    (
        lambda: jc.weight_norm(c6, c6),
        ValueError,
        "weight_norm: v must be [..., O] with at least 2 axes, got float",
    ),
    (
        lambda: jc.weight_norm(w, c8.astype(np.float16)),
        TypeError,
        "weight_norm: g must be float32 as v is, got float",
    ),
    (lambda: jc.spectral_norm(w, c6), ValueError, "spectral_norm: u must be one entry per channel, [8], got float32"),
    (lambda: jc.spectral_norm(c6, c6), ValueError, "spectral_norm: w must be [..., O] with at least 2 axes, got float"),
    (
        lambda: jc.spectral_norm(w, c8, iterations=-1),
        ValueError,
        "spectral_norm: iterations must be an int of at least 0, got -1",
    ),
    (lambda: jc.mean_squared_error(c6, c8), ValueError, "mean_squared_error: target must be of the shape [6] of y"),
    (lambda: jc.softmax_cross_entropy(row, np.zeros(3, int)), ValueError, "labels must be classes [2], got int"),
    (lambda: jc.softmax_cross_entropy(row, c6), ValueError, "labels must be distributions [2, 6], got float32[6]"),
    # groups, strides, dilations, windows
    (lambda: jc.conv(x, w, groups=4), ValueError, "conv: groups must be a divisor of the 6 channels of x, got 4"),
    (
        lambda: jc.conv(x, w[:, :, :2, :7], groups=3),
        ValueError,
        "groups must be a divisor of the 7 filters of w, got 3",
    ),
    (lambda: jc.conv(x, w, groups=0), ValueError, "conv: groups must be an int of at least 1, got 0"),
    (lambda: jc.conv(x, w, groups=2.0), TypeError, "conv: groups must be an int of at least 1, got float 2.0"),
    (lambda: jc.conv(x, w, stride=0), ValueError, "conv: stride must be an int of at least 1, got 0"),
    (
        lambda: jc.conv(x, w, stride=True),
        TypeError,
        "stride must be an int of at least 1 or 2 ints, one per spatial axis, got bool True",
    ),
    (
        lambda: jc.conv(x, w, stride=jnp.ones((), int)),
        TypeError,
        "conv: stride must be an int of at least 1 or 2 ints, one per spatial axis, got int",
    ),
    (
        lambda: jc.conv(x, w, stride=(1, 2, 3)),
        ValueError,
        "stride must be an int or 2 ints, one per spatial axis, got (1, 2",
    ),
    (lambda: jc.conv(x, w, dilation=(1, -1)), ValueError, "conv: dilation must be an int of at least 1, got -1"),
    (lambda: jc.max_pool(x, 0), ValueError, "max_pool: window must be an int of at least 1, got 0"),
    (lambda: jc.max_pool(x, (2, 2, 2)), ValueError, "max_pool: window must be an int or 2 ints"),
    (
        lambda: jc.mean_pool(x, 2, stride=1.5),
        TypeError,
        "mean_pool: stride must be an int of at least 1 or 2 ints, one per spatial axis, got float 1.5",
    ),
    (lambda: jc.downsample(x, 0), ValueError, "downsample: factor must be an int of at least 1, got 0"),
    (
        lambda: jc.upsample(x, 2, shape=(9, 9)),
        ValueError,
        "upsample: shape must be a spatial shape that downsampling by",
    ),
    (lambda: jc.upsample(x, 2, shape=9), TypeError, "upsample: shape must be a shape, a tuple of ints, got int 9"),
    (lambda: jc.pixel_shuffle(x, 2), ValueError, "factor must be such that their product divides the 6 channels of x"),
    (lambda: jc.pixel_shuffle(x, 0), ValueError, "pixel_shuffle: factor must be an int of at least 1, got 0"),
    (lambda: jc.pixel_shuffle(row, 2), ValueError, "pixel_shuffle: x must be [N, *S, C] with at least 3 axes, got"),
    (lambda: jc.pixel_unshuffle(x, 2), ValueError, "x must be [N, *S, C] with S multiples of factor (2, 2), got"),
    (
        lambda: jc.pixel_unshuffle(x, 2.0),
        TypeError,
        "pixel_unshuffle: factor must be an int of at least 1 or 2 ints, one per spatial axis, got float",
    ),
    (lambda: jc.pixel_unshuffle(row, 2), ValueError, "pixel_unshuffle: x must be [N, *S, C] with at least 3 axes, got"),
    (lambda: jc.resize(row, 2), ValueError, "resize: x must be [N, *S, C] with at least 3 axes, got float32[2, 6]"),
    (lambda: jc.resize(x[:, :0], 2), ValueError, "x must be of at least 1 entry per spatial axis, got float32[2, 0"),
    (lambda: jc.resize(x, 0), ValueError, "resize: shape must be an int of at least 1, got 0"),
    (lambda: jc.resize(x, (2, 2, 2)), ValueError, "resize: shape must be an int or 2 ints, one per spatial axis, got"),
    (lambda: jc.resize(x, 2, "cubic"), ValueError, "resize: method must be one of 'nearest', 'linear', got 'cubic'"),
    # paddings
    (
        lambda: jc.conv(x, w, padding="FULL"),
        ValueError,
        "padding must be one of 'SAME', 'SAME_LOWER', 'VALID', 'CAUSAL'",
    ),
    (
        lambda: jc.conv(x, w, padding=1.0),
        TypeError,
        "padding must be a string, an int, 2 ints or 2 pairs (low, high), one per spatial axis, got float 1.0",
    ),
    (
        lambda: jc.conv(x, w, padding=None),
        TypeError,
        "padding must be a string, an int, 2 ints or 2 pairs (low, high), one per spatial axis, got NoneType None",
    ),
    (lambda: jc.conv(x, w, padding=(1, 1, 1)), ValueError, "2 pairs (low, high), one per spatial axis, got (1, 1, 1)"),
    (
        lambda: jc.mean_pool(x[0], 2, padding=(1, 0)),
        ValueError,
        "one per spatial axis, got (1, 0): low and high of one axis are ((1, 0),)",
    ),
    (lambda: jc.pad(x, (1, 1)), ValueError, "pad: width must be an int or 2 pairs (low, high), one per spatial axis"),
    (
        lambda: jc.conv(x, w, stride=np.ones((2, 2), int)),
        TypeError,
        "stride must be an int of at least 1, got int64[2]",
    ),
    (
        lambda: jc.conv(x, w, stride=np.True_),
        TypeError,
        "stride must be an int of at least 1 or 2 ints, one per spatial axis, got bool True",
    ),
    (
        lambda: jc.conv(x, w, stride=np.array([1.0, 2.0])),
        TypeError,
        "stride must be an int of at least 1, got float 1.0",
    ),
    (
        lambda: jax.jit(lambda s: jc.mean_pool(x, s))(2),
        TypeError,
        "window must be an int of at least 1 or 2 ints, one per spatial axis, got int64[] that is traced: options are",
    ),
    (
        lambda: jax.jit(lambda s: jc.conv(x, w, padding=s))(np.array([2, 2])),
        TypeError,
        "conv: padding must be a string, an int, 2 ints or 2 pairs (low, high), one per spatial axis, got int64[2] t",
    ),
    (
        lambda: jax.jit(lambda b: jc.gelu(x, approximate=b))(True),
        TypeError,
        "approximate must be True or False, got bool[] that is ",
    ),
    (
        lambda: jax.jit(lambda r: jc.elu(x, r))(0.5),
        TypeError,
        "elu: alpha must be a finite number, got float64[] that is",
    ),
    (lambda: jc.elu(x, "1"), TypeError, "elu: alpha must be a finite number, got str '1'"),
    (lambda: jc.elu(x, np.ones(2)), TypeError, "elu: alpha must be a finite number, got float64[2]"),
    (lambda: jc.max_pool(x, 2, ceil_mode=np.ones(2, bool)), TypeError, "ceil_mode must be True or False, got bool[2]"),
    (
        lambda: jc.conv(x, w, padding=((1, 1),)),
        ValueError,
        "conv: padding must be a string, an int, 2 ints or 2 pairs (low, high)",
    ),
    (lambda: jc.conv(x, w, padding=((1, 1), (1, 0.5))), TypeError, "conv: padding must be an int, got float 0.5"),
    (
        lambda: jc.conv(x[:, :2], w, padding="VALID"),
        ValueError,
        "w must be no larger than the padded input [2, 4], got a",
    ),
    (lambda: jc.conv(x, w, padding=-2), ValueError, "conv: w must be no larger than the padded input [1, 0]"),
    (lambda: jc.mean_pool(x, (6, 1)), ValueError, "mean_pool: window must be no larger than the padded input [5, 4]"),
    (lambda: jc.weighted_pool(x, w[:, :, 0, 0], padding=-2), ValueError, "weighted_pool: w must be no larger than the"),
    (
        lambda: jc.max_pool(x, 2, padding=2),
        ValueError,
        "max_pool: padding must be such that every window of size (2, 2)",
    ),
    (lambda: jc.pad(row, 1), ValueError, "pad: x must be [N, *S, C] with at least 3 axes, got float32[2, 6]"),
    (lambda: jc.pad(x, 1.0), TypeError, "pad: width must be an int or 2 pairs (low, high), one per spatial axis, got"),
    (lambda: jc.pad(x, (1, 1)), ValueError, "pad: width must be an int or 2 pairs (low, high), one per spatial axis"),
    (lambda: jc.pad(x, 1, "edge"), ValueError, "pad: mode must be one of 'zeros', 'circular', 'reflect', 'replicate'"),
    (lambda: jc.pad(x, -2), ValueError, "pad: width must be such that something is left of [5, 4], got ((-2, -2), ("),
    (
        lambda: jc.pad(x, ((5, 5), (0, 5)), "circular"),
        ValueError,
        "pad: width must be at most [5, 4] at either end of an image [5, 4] in mode 'circular', got ((5, 5), (0, 5))",
    ),
    (lambda: jc.pad(x, ((4, 0), (-3, 2)), "circular"), ValueError, "width must be at most [5, 1] at either end of an"),
    (lambda: jc.pad(x, 4, "reflect"), ValueError, "width must be at most [4, 3] at either end of an image [5, 4] in"),
    (lambda: jc.pad(x[:, :0], 1, "replicate"), ValueError, "width must be at most [0, inf] at either end of an image"),
    (
        lambda: jc.lp_pool(row, 2, 2),
        ValueError,
        "lp_pool: x must be [N, *S, C] with at least 3 axes, got float32[2, 6]",
    ),
    (lambda: jc.lp_pool(x, 5, 2), ValueError, "lp_pool: window must be no larger than the padded input [5, 4], got a"),
    (  # as PyTorch, whose output size would be 0
        lambda: jc.max_pool(x, 6, stride=1, ceil_mode=True),
        ValueError,
        "window must be no larger than the padded input [5, 4], or by less than the stride, got a window that spans [6",
    ),
    (lambda: jc.lp_pool(x, 2, c6), TypeError, "lp_pool: p must be a finite number, got float32[6]"),
    (lambda: jc.lp_pool(x, 2, np.inf), ValueError, "lp_pool: p must be a finite number, got inf"),
    (lambda: jc.lp_pool(x, 2, 0), ValueError, "lp_pool: p must be a number above 0, got 0"),
    (lambda: jc.lp_pool(x, 2, 2, ceil_mode=1), TypeError, "lp_pool: ceil_mode must be True or False, got int 1"),
    (lambda: jc.mixed_pool(x, c8, 2), ValueError, "mixed_pool: share must be one share [] or one per channel [6], got"),
    (lambda: jc.mixed_pool(x, 0.5, 2), TypeError, "mixed_pool: share must be a floating-point array, got float 0.5"),
    (lambda: jc.mixed_pool(x, c6, 2, padding=2), ValueError, "mixed_pool: padding must be such that every window of"),
    (lambda: jc.softmax_pool(x, row, 2), ValueError, "temperature must be one temperature [] or one per channel [6]"),
    (lambda: jc.softmax_pool(x, c6, 2), ValueError, "softmax_pool: temperature must be above 0 everywhere, got 0.0"),
    (lambda: jc.softmax_pool(row, c6 + 1, 2), ValueError, "softmax_pool: x must be [N, *S, C] with at least 3 axes"),
    (lambda: jc.softmax_pool(x, c6 + 1, 2, padding=2), ValueError, "softmax_pool: padding must be such that every"),
    (lambda: jc.stochastic_pool(0, x, 2), TypeError, "stochastic_pool: key must be one JAX random key, got int 0"),
    (lambda: jc.stochastic_pool(key(), row, 2), ValueError, "stochastic_pool: x must be [N, *S, C] with at least 3"),
    (lambda: jc.stochastic_pool(key(), x, 5), ValueError, "stochastic_pool: window must be no larger than the padded"),
    (
        lambda: jc.stochastic_pool(key(), x, 2, padding=2),
        ValueError,
        "stochastic_pool: padding must be such that every",
    ),
    (lambda: jc.stochastic_pool_inference(x, 0), ValueError, "stochastic_pool_inference: window must be an int of at"),
    (lambda: jc.stochastic_pool_inference(x, 2, padding=2), ValueError, "padding must be such that every window of"),
    # numbers and choices
    (lambda: jc.dropout(key(), x, 1.5), ValueError, "dropout: rate must be a number from 0 to 1, got 1.5"),
    (lambda: jc.dropout(key(), x, float("nan")), ValueError, "dropout: rate must be a number from 0 to 1, got nan"),
    (lambda: jc.dropout(0, x, 0.5), TypeError, "dropout: key must be one JAX random key, got int 0"),
    (
        lambda: jc.dropout(jax.random.split(key()), x, 0.5),
        TypeError,
        "dropout: key must be one JAX random key, got key",
    ),
    (lambda: jc.spatial_dropout(key(), row, 0.5), ValueError, "spatial_dropout: x must be [N, *S, C] with at least 3"),
    (lambda: jc.spatial_dropout(key(), x, -0.1), ValueError, "spatial_dropout: rate must be a number from 0 to 1, got"),
    (lambda: jc.spatial_dropout(0, x, 0.5), TypeError, "spatial_dropout: key must be one JAX random key, got int 0"),
    (lambda: jc.drop_path(key(), np.float32(1), 0.5), ValueError, "x must be [N, ...] with at least 1 axis, got float"),
    (lambda: jc.drop_path(key(), x, "0.5"), TypeError, "drop_path: rate must be a number from 0 to 1, got str '0.5'"),
    (lambda: jc.drop_path(None, x, 0.5), TypeError, "drop_path: key must be one JAX random key, got NoneType None"),
    (lambda: jc.drop_block(key(), row, 0.5, 2), ValueError, "drop_block: x must be [N, *S, C] with at least 3 axes"),
    (lambda: jc.drop_block(key(), x, 2.0, 2), ValueError, "drop_block: rate must be a number from 0 to 1, got 2.0"),
    (lambda: jc.drop_block(key(), x, 0.5, 0), ValueError, "drop_block: block must be an int of at least 1, got 0"),
    (lambda: jc.drop_block(key(), x, 0.5, 5), ValueError, "block must be no larger than the padded input [5, 4], got"),
    (lambda: jc.drop_block(key(), x, 0.5, (2,)), ValueError, "drop_block: block must be an int or 2 ints, one per"),
    (
        lambda: jc.batch_norm(x, c6, c6, eps=-1),
        ValueError,
        "batch_norm: eps must be a finite number of at least 0, got -1",
    ),
    (
        lambda: jc.batch_norm(x, c6, c6, eps="small"),
        TypeError,
        "batch_norm: eps must be a finite number of at least 0, got str",
    ),
    (lambda: jc.relu(x, keeps="y"), ValueError, "relu: keeps must be one of 'input', 'output', got 'y'"),
    (lambda: jc.leaky_relu(x, c6), TypeError, "leaky_relu: negative_slope must be a finite number, got float32[6]"),
    (lambda: jc.celu(x, 0), ValueError, "celu: alpha must be a number other than 0, got 0"),
    (lambda: jc.gelu(x, approximate="tanh"), TypeError, "gelu: approximate must be True or False, got str 'tanh'"),
    (
        lambda: jc.softmax_cross_entropy(row, classes, reduction="average"),
        ValueError,
        "one of 'mean', 'sum', 'none', got",
    ),
    (
        lambda: jc.softmax_cross_entropy(row, np.array([0, 6])),
        ValueError,
        "labels must be from 0 to 5 or left out by ignore_index, got 6",
    ),
    (lambda: jc.softmax_cross_entropy(row, np.array([-1, 0])), ValueError, "labels must be from 0 to 5 or left out by"),
    # losses
    (
        lambda: jc.softmax_cross_entropy(row, classes, label_smoothing=1.5),
        ValueError,
        "label_smoothing must be a number from 0 to 1, got 1.5",
    ),
    (
        lambda: jc.softmax_cross_entropy(row, classes, label_smoothing="0.1"),
        TypeError,
        "softmax_cross_entropy: label_smoothing must be a number from 0 to 1, got str '0.1'",
    ),
    (
        lambda: jc.softmax_cross_entropy(row, classes, class_weights=c8),
        ValueError,
        "class_weights must be one weight per class, [6], got float32[8]",
    ),
    (
        lambda: jc.softmax_cross_entropy(row, classes, class_weights=c6.astype(np.float16)),
        TypeError,
        "class_weights must be float32 as logits is, got float16[6]",
    ),
    (
        lambda: jc.softmax_cross_entropy(row, classes, where=classes),
        TypeError,
        "where must be an array of bools, got int32[2]",
    ),
    (
        lambda: jc.softmax_cross_entropy(row, classes, where=row > 0),
        ValueError,
        "softmax_cross_entropy: where must be bools [2], got bool[2, 6]",
    ),
    (
        lambda: jc.softmax_cross_entropy(np.float32(1), classes),
        ValueError,
        "softmax_cross_entropy: logits must be [..., K] with at least 1 axis, got float32[]",
    ),
    (
        lambda: jc.softmax_cross_entropy(row, [0, 1]),
        TypeError,
        "labels must be an array of integers or of float32, got list [0, 1]",
    ),
    (
        lambda: jc.softmax_cross_entropy(row[:, :0], classes),
        ValueError,
        "softmax_cross_entropy: logits must be [..., K] with at least 1 class, got float32[2, 0]",
    ),
    (lambda: jc.nll(row[:, :0], classes), ValueError, "nll: log_p must be [..., K] with at least 1 class, got float32"),
    (lambda: jc.nll(row, row), TypeError, "nll: labels must be an array of integers, got float32[2, 6]"),
    (lambda: jc.nll(row, np.array([0, 6])), ValueError, "nll: labels must be from 0 to 5 or left out by"),
    (lambda: jc.nll(c6[0], classes), ValueError, "nll: log_p must be [..., K] with at least 1 axis, got float32[]"),
    (
        lambda: jc.nll(row, classes, class_weights=c8),
        ValueError,
        "nll: class_weights must be one weight per class, [6]",
    ),
    (lambda: jc.kl_divergence(row, c6), ValueError, "q must be of the shape [2, 6] of log_p, got float32[6]"),
    (
        lambda: jc.kl_divergence(row, classes),
        TypeError,
        "kl_divergence: q must be a floating-point array, got int32[2]",
    ),
    (lambda: jc.kl_divergence(c6[0], c6[0]), ValueError, "kl_divergence: log_p must be [..., K] with at least 1 axis"),
    (
        lambda: jc.sigmoid_cross_entropy(row, row.astype(np.float16)),
        TypeError,
        "labels must be an array of bools, integers or float32, got float16[2, 6]",
    ),
    (
        lambda: jc.sigmoid_cross_entropy(row, classes),
        ValueError,
        "sigmoid_cross_entropy: labels must be of the shape [2, 6] of logits, got int32[2]",
    ),
    (lambda: jc.sigmoid_cross_entropy(c6, np.arange(6)), ValueError, "labels must be from 0 to 1 or left out by"),
    (
        lambda: jc.sigmoid_cross_entropy(row, row > 0, pos_weight=c8),
        ValueError,
        "pos_weight must be one weight [] or one per class [6], got float32[8]",
    ),
    (lambda: jc.focal(row, row), TypeError, "focal: labels must be an array of bools or integers, got float32[2, 6]"),
    (
        lambda: jc.focal(row, row > 0, gamma=-1),
        ValueError,
        "focal: gamma must be a finite number of at least 0, got -1",
    ),
    (lambda: jc.focal(row, row > 0, alpha=2), ValueError, "focal: alpha must be a number from 0 to 1, got 2"),
    (lambda: jc.focal(row, row > 0, where=c6 > 0), ValueError, "focal: where must be bools [2, 6], got bool[6]"),
    (lambda: jc.hinge(row, classes, margin=c6), TypeError, "hinge: margin must be a finite number, got float32[6]"),
    (lambda: jc.hinge(row, classes - 1), ValueError, "hinge: labels must be from 0 to 5 or left out by"),
    (lambda: jc.nll(row, classes, ignore_index=True), TypeError, "nll: ignore_index must be an int, got bool True"),
    (lambda: jc.hinge(row, classes, ignore_index=0.0), TypeError, "hinge: ignore_index must be an int, got float 0.0"),
    (
        lambda: jc.softmax_cross_entropy(row, row, ignore_index=0),
        ValueError,
        "softmax_cross_entropy: ignore_index must be None, as labels are no integers, got 0",
    ),
    (lambda: jc.focal(row, row > 0, ignore_index=1), ValueError, "focal: ignore_index must be None, as labels are no"),
    (lambda: jc.dice(row, classes), ValueError, "dice: p must be [N, *S, C] with at least 3 axes, got float32[2, 6]"),
    (lambda: jc.dice(x, classes), ValueError, "dice: labels must be classes [2, 5, 4], got int32[2]"),
    (lambda: jc.dice(x, x, smooth=-1), ValueError, "dice: smooth must be a finite number of at least 0, got -1"),
    (lambda: jc.huber(c6, c6, delta=0), ValueError, "huber: delta must be a number above 0, got 0"),
    (lambda: jc.huber(c6, c8), ValueError, "huber: target must be of the shape [6] of y, got float32[8]"),
    (
        lambda: jc.mean_absolute_error(c6, c6, where=True),
        TypeError,
        "mean_absolute_error: where must be an array of bools, got bool True",
    ),
    (lambda: jc.mean_absolute_error(c6, c6, reduction=None), ValueError, "one of 'mean', 'sum', 'none', got None"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS, ids=[message for *_, message in BAD_CALLS])
def test_bad_call_is_refused_while_tracing(call, error, message):
    """`eval_shape` compiles nothing, so what raises here raises before compilation."""
    with pytest.raises(error) as raised:
        jax.eval_shape(call)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_there_are_enough():
    assert len(BAD_CALLS) >= 40
