"""What a model is applied to: parameters and state as init makes them, images as it was made for; the rest is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcnn
from jaxcnn import nn

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
SHAPE = (2, 8, 8, 1)
BODY = nn.residual(nn.sequential(nn.conv(4, 3), nn.dropout(0.5)))
MODEL = nn.sequential(nn.conv(4, 3), nn.batch_norm(), jaxcnn.relu, nn.max_pool(2), BODY, nn.flatten(), nn.dense(10))
PARAMS, STATE = jax.eval_shape(lambda: MODEL.init(KEY, SHAPE))


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def changed(tree, path, leaf=None):
    """A tree with another leaf at a path, or without that path."""
    name, _, rest = path.partition("/")
    others = {key: value for key, value in tree.items() if key != name}
    if rest:
        return {**others, name: changed(tree.get(name, {}), rest, leaf)}
    return others if leaf is None else {**others, name: leaf}


def said(model, params, state, x, **options):
    """The error of an application whose arrays are traced, but for those among them that are none."""
    with pytest.raises((TypeError, ValueError)) as eager_or_traced:
        jax.eval_shape(lambda x: model.apply(*jax.tree.map(zeros, (params, state)), x, **options), x)
    return str(eager_or_traced.value).partition("\n")[0]


def zeros(leaf):
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


@pytest.mark.parametrize(
    ("params", "state", "message"),
    [
        (
            changed(PARAMS, "conv1/w", array(5, 5, 1, 4)),
            STATE,
            'conv: params #"conv1/w" [3, 3, 1, 4], got float32[5, 5,',
        ),
        (
            changed(PARAMS, "conv1/w", array(3, 3, 1, 7)),
            STATE,
            'conv: params #"conv1/w" [3, 3, 1, 4], got float32[3, 3,',
        ),
        (
            changed(PARAMS, "residual1/body/conv1/w", array(3, 3, 2, 4)),
            STATE,
            'conv: params #"residual1/body/conv1/w" [3, 3, 4, 4], got float32[3, 3, 2, 4]',
        ),
        (
            changed(PARAMS, "batch_norm1/gamma"),
            STATE,
            'batch_norm: params #"batch_norm1/gamma" [4], got none of this nam',
        ),
        (changed(PARAMS, "batch_norm1"), STATE, 'batch_norm: params #"batch_norm1/gamma" [4], got none of this name'),
        (PARAMS, {}, 'batch_norm: state #"batch_norm1/mean" [4], got none of this name'),
        (
            PARAMS,
            changed(STATE, "batch_norm1/var", array(5)),
            'batch_norm: state #"batch_norm1/var" [4], got float32[5]',
        ),
        (changed(PARAMS, "batch_norm2/gamma", array(4)), STATE, '#"batch_norm2" not among them, got those of gamma'),
        (PARAMS, changed(STATE, "conv1/mean", array(4)), 'conv: state #"conv1/mean" not among them, got float32[4]'),
        (
            changed(PARAMS, "max_pool1/w", array(4)),
            STATE,
            'max_pool: params #"max_pool1/w" not among them, got float32[4]',
        ),
        (changed(PARAMS, "conv1/b", 3.0), STATE, 'conv: params #"conv1/b" [4], got float 3.0'),
        (changed(PARAMS, "dense1/w", array(64, 9)), STATE, 'dense: params #"dense1/w" [64, 10], got float32[64, 9]'),
        (
            {"params": PARAMS},
            STATE,
            'sequential: params #"params" not among them, got those of batch_norm1, conv1, dense1',
        ),
        (
            [PARAMS],
            STATE,
            "sequential: params must be nested dicts as init gives them, got list [{'batch_norm1': {'beta",
        ),
        (PARAMS, None, "sequential: state must be nested dicts as init gives them, got NoneType None"),
        (
            changed(PARAMS, "conv1", [1.0]),
            STATE,
            "conv: params must be nested dicts as init gives them, got list [1.0]",
        ),
        (
            jax.tree.map(lambda leaf: array(3, *leaf.shape), PARAMS),
            STATE,
            'conv: params #"conv1/w" [3, 3, 1, 4], got float32[3, 3, 3, 1, 4]',
        ),
    ],
)
def test_parameters_and_state_of_another_model(params, state, message):
    got = said(MODEL, params, state, array(*SHAPE))
    assert message.replace("#", "must be as init makes them, ") in got
    assert got.startswith("nn.")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ((2, 1, 8, 8), "conv: x must be [N, H, W, 1], got [2, 1, 8, 8]: channels are last"),
        ((8, 8, 1), "conv: x must be [N, H, W, 1], got [8, 8, 1]: the batch axis is missing, x[None]"),
        ((2, 8, 8), "conv: x must be [N, H, W, 1], got [2, 8, 8]: the axis of channels is missing, x[..., None]"),
        ((8, 8), "conv: x must be [N, H, W, 1], got [8, 8]: the axes of the batch and of the channels are missing"),
        ((2, 64), "conv: x must be [N, H, W, 1], got [2, 64]: rows become images by x.reshape(-1, 8, 8, 1)"),
        ((2, 60), "conv: x must be [N, H, W, 1], got [2, 60]: rows must be reshaped to images"),
        ((4, 4), "are missing, x[None, ..., None]; rows become images by x.reshape(-1, 2, 2, 1)"),
        ((2, 8, 8, 3), "conv: x must be [N, H, W, 1], got [2, 8, 8, 3]"),
        (
            (2, 8, 8, 8, 1),
            "conv: x must be [N, H, W, 1], got [2, 8, 8, 8, 1]: or init was given a shape without the batch axis",
        ),
        ((), "conv: x must be [N, H, W, 1], got []"),
        ((2, 6, 8, 1), '"dense1/w" [48, 10], got float32[64, 10]: for images of another size?'),
    ],
)
def test_images_of_another_shape(x, message):
    assert message in said(MODEL, PARAMS, STATE, array(*x))


@pytest.mark.parametrize(
    ("layer", "input_shape", "x", "message"),
    [
        (
            nn.conv(6, 3, groups=3),
            (2, 8, 8, 6),
            (2, 6, 8, 8),
            "nn.conv: x must be [N, H, W, 6], got [2, 6, 8, 8]: channel",
        ),
        (nn.conv(4, 3), (2, 8, 3), (8, 3), "nn.conv: x must be [N, W, 3], got [8, 3]: the batch axis is missing"),
        (
            nn.conv(4, 3),
            (2, 4, 5, 6, 3),
            (4, 5, 6, 3),
            "nn.conv: x must be [N, D, H, W, 3], got [4, 5, 6, 3]: the batch",
        ),
        (
            nn.depthwise_conv(3, multiplier=2),
            (2, 8, 8, 3),
            (2, 3, 8, 8),
            "x must be [N, H, W, 3], got [2, 3, 8, 8]: chan",
        ),
        (
            nn.separable_conv(5, 3),
            (2, 8, 8, 3),
            (8, 8, 3),
            "nn.separable_conv: x must be [N, H, W, 3], got [8, 8, 3]: ",
        ),
        (nn.conv_transpose(4, 3), (2, 8, 8, 3), (2, 8, 8), "the axis of the batch or of the channels is missing"),
        (
            nn.weight_norm(nn.conv(4, 3)),
            (2, 8, 8, 3),
            (2, 3, 8, 8),
            "nn.conv: x must be [N, H, W, 3], got [2, 3, 8, 8]:",
        ),
        (nn.spectral_norm(nn.dense(4)), (2, 8), (2, 7), "nn.dense: x must be [N, 8], got [2, 7]"),
        (
            nn.dense(4),
            (2, 8),
            (2, 2, 2, 2),
            "nn.dense: x must be [N, 8], got [2, 2, 2, 2]: nn.flatten() sorts images int",
        ),
        (
            nn.weighted_pool(2),
            (2, 8, 8, 3),
            (2, 3, 8, 8),
            "nn.weighted_pool: x must be [N, H, W, 3], got [2, 3, 8, 8]: ",
        ),
        (nn.batch_norm(), (2, 3), (3,), "nn.batch_norm: x must be [N, ..., 3], got [3]: the batch axis is missing"),
        (
            nn.batch_norm(),
            (2, 8, 8, 3),
            (2, 3, 8, 8),
            "nn.batch_norm: x must be [N, ..., 3], got [2, 3, 8, 8]: channels a",
        ),
        (nn.batch_norm(), (2, 8, 8, 3), (2, 8, 8, 4), "nn.batch_norm: x must be [N, ..., 3], got [2, 8, 8, 4]"),
        (
            nn.layer_norm(axes=(1, 2)),
            (2, 8, 8, 3),
            (2, 7, 8, 3),
            "nn.layer_norm: x must be [N, 8, 8, C], got [2, 7, 8, 3]",
        ),
        (
            nn.autoencoder(),
            (2, 8, 8, 1),
            (2, 1, 8, 8),
            "nn.conv: x must be [N, H, W, 1], got [2, 1, 8, 8]: channels are",
        ),
        (
            nn.unet(depth=2, width=1),
            (2, 8, 8, 1),
            (2, 8, 6, 1),
            "nn.unet: x must be [N, *S, C] with S a multiple of 2^dep",
        ),
        (
            nn.unet(depth=2, width=1),
            (2, 8, 8, 1),
            (2, 1, 8, 8),
            "nn.conv: x must be [N, H, W, 1], got [2, 1, 8, 8]: chan",
        ),
    ],
)
def test_a_layer_knows_what_its_input_should_be(layer, input_shape, x, message):
    params, state = jax.eval_shape(lambda: layer.init(KEY, input_shape))
    assert jax.eval_shape(layer.apply, params, state, array(*input_shape))
    assert message in said(layer, params, state, array(*x))


OWN = nn.Layer(
    lambda key, shape: ({"scale": jnp.ones(shape[-1], "float32")}, {}),
    lambda params, state, x, *, train=False, key=None: (x * jnp.broadcast_to(params["scale"], x.shape), state),
    "own",
)


@pytest.mark.parametrize(
    "front",
    [
        nn.batch_norm(),
        nn.group_norm(2),
        nn.layer_norm(),
        nn.rms_norm(),
        nn.instance_norm(),
        nn.prelu(),
        nn.layer_scale(),
        nn.sequential(nn.batch_norm(), jaxcnn.relu),
        OWN,
    ],
    ids=lambda layer: layer.name,
)
def test_layers_that_take_any_number_of_axes_in_front_of_a_convolution(front):
    model = nn.sequential(front, nn.remat(nn.conv(8, 3)), nn.conv(2, 1))
    params, state = jax.eval_shape(lambda: model.init(KEY, (2, 8, 8, 4)))
    unbatched = said(model, params, state, array(8, 8, 4))
    assert unbatched == "nn.conv: x must be [N, H, W, 4], got [8, 8, 4]: the batch axis is missing, x[None]"
    if front is not OWN:
        for x in ((2, 8, 8), (2, 8, 8, 6), (2, 4, 8, 8)):
            got = said(model, params, state, array(*x))
            assert "4], got " + str(list(x)) + ": channels are last" * (x[1] == 4) == got[got.index("4]") :]
    model = nn.sequential(nn.conv(4, 3), front, nn.conv(8, 3))
    params, state = jax.eval_shape(lambda: model.init(KEY, SHAPE))
    got = said(model, changed(params, "conv2/w", array(3, 3, 6, 8)), state, array(*SHAPE))
    assert 'params must be as init makes them, "conv2/w" [3, 3, 4, 8], got float32[3, 3, 6, 8]' in got


@pytest.mark.parametrize(
    ("model", "input_shape", "x", "end"),
    [
        (
            nn.layer_norm(axes=(1, 2, 3)),
            (2, 8, 8, 3),
            (2, 3, 8, 8),
            "[N, 8, 8, 3], got [2, 3, 8, 8]: channels are last",
        ),
        (nn.rms_norm(axes=(-3, -2)), (2, 8, 8, 3), (8, 7, 3), "[N, 8, 8, C], got [8, 7, 3]"),
        (nn.conv(4, 3), (2, 3, 64, 64), (2, 64, 64, 3), "channels are last, or init was given channels first"),
        (nn.sequential(nn.max_pool(2), nn.conv(8, 3)), (2, 8, 8, 4), (2, 8, 8, 6), "[N, H, W, 4], got [2, 4, 4, 6]"),
        (nn.conv(8, 3, padding="VALID"), (2, 8, 8, 4), (2, 1, 1, 4), "nn.conv: size must be no larger than the padded"),
        (
            nn.separable_conv(8, 3, padding="VALID"),
            (2, 8, 8, 4),
            (2, 1, 1, 4),
            "nn.separable_conv: size must be no lar",
        ),
        (nn.weighted_pool(3), (2, 8, 8, 4), (2, 1, 1, 4), "nn.weighted_pool: window must be no larger than the padded"),
        (
            nn.weighted_pool(3, shared=True),
            (2, 8, 8, 4),
            (8, 8, 4),
            "nn.weighted_pool: x must be [N, H, W, C], got [8,",
        ),
    ],
)
def test_what_is_wrong_with_an_image(model, input_shape, x, end):
    got = said(model, *jax.eval_shape(lambda: model.init(KEY, input_shape)), array(*x))
    assert end in got
    assert "channels are last" in end or "channels are last" not in got


def test_a_unet_of_symbolic_images():
    model = nn.unet(depth=2, width=1)
    params, state = jax.eval_shape(lambda: model.init(KEY, SHAPE))
    n, h, w = jax.export.symbolic_shape("n, h, w")
    x = array(n, 4 * h, 8 * w, 1)
    assert jax.eval_shape(model.apply, params, state, x)[0].shape == (*x.shape[:-1], 2)
    with pytest.raises(ValueError, match=r"^nn.unet: x must be .* a multiple of 2\^depth = 4, got \[n, h, 4\*w, 1\]"):
        jax.eval_shape(model.apply, params, state, array(n, h, 4 * w, 1))


def test_what_is_done_with_parameters_still_works():
    x, half = array(*SHAPE), array(*SHAPE, dtype=jnp.bfloat16)
    of_numpy = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), (PARAMS, STATE))
    assert jax.eval_shape(lambda x: MODEL.apply(*of_numpy, x)[0], x).shape == (2, 10)
    stacked = jax.tree.map(lambda leaf: array(3, *leaf.shape), (PARAMS, STATE))
    assert jax.eval_shape(jax.vmap(MODEL.apply, (0, 0, None)), *stacked, x)[0].shape == (3, 2, 10)
    params = jax.tree.map(lambda leaf: array(*leaf.shape, dtype=jnp.bfloat16), PARAMS)
    assert jax.eval_shape(MODEL.apply, params, STATE, half)[0].dtype == jnp.bfloat16

    def of_one(params, state, image):
        return jnp.sum(MODEL.apply(params, state, image[None])[0])

    each = jax.eval_shape(jax.vmap(jax.grad(of_one), (None, None, 0)), PARAMS, STATE, x)
    assert each["dense1"]["b"].shape == (2, 10)


def test_a_layer_of_ones_own_is_asked_nothing():
    def init(key, input_shape):
        return {"scale": jax.random.normal(key, input_shape[-1:])}, {}

    mine = nn.Layer(init, lambda params, state, x, *, train=False, key=None: (x * params["scale"], state), "mine")
    model = nn.sequential(mine, nn.named("again", mine))
    x = jnp.ones((1, 1))
    assert model.apply({"mine1": {"scale": 2.0, "more": 1}, "again": {"scale": 3.0}}, {}, x)[0] == 6
    with pytest.raises(KeyError, match="scale") as caught:
        model.apply({"mine1": {"scale": 2.0}}, {}, x)
    assert caught.value.__notes__ == ["in again"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: MODEL.init(SHAPE, KEY),
            r"nn.sequential: key must be one JAX random key, got tuple \(2, 8, 8, 1\): the ",
        ),
        (lambda: MODEL.init(jnp.ones(SHAPE), KEY), "nn.sequential: key must be .*: the key comes first"),
        (lambda: nn.dense(3).init((1, 8), KEY), "nn.dense: input_shape must be a shape, .*: the key comes first"),
        (lambda: MODEL.init(KEY, jnp.ones(SHAPE)), r"nn.conv: input_shape must be .*, whose shape it is"),
        (
            lambda: jax.jit(MODEL.init)(KEY, SHAPE),
            "nn.sequential: input_shape must be static: jax.jit.model.init, static_",
        ),
        (
            lambda: jax.jit(MODEL.init)(KEY, input_shape=SHAPE),
            "nn.sequential: input_shape must be static: jax.jit.model",
        ),
        (
            lambda: jax.jit(MODEL.apply)(*MODEL.init(KEY, SHAPE), jnp.ones(SHAPE), train=True),
            r'nn.sequential: train must be static: jax.jit\(model.apply, static_argnames="train"\), got a traced value',
        ),
        (lambda: jax.jit(nn.flatten().apply)({}, {}, jnp.ones(SHAPE), train=True), "nn.flatten: train must be static"),
    ],
)
def test_arguments_in_another_order_and_traced_ones(call, message):
    with pytest.raises(TypeError, match="^" + message):
        call()
