"""Ops exported for arrays of any size, for several platforms at once."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from table import CASES, LOSSES

import jaxcnn as jc
from jaxcnn import explicit, nn

PLATFORMS = ("cpu", "cuda", "tpu")


def _value_and_gradients(f):
    def of(x, w):
        z, backward = jax.vjp(f, x, w)
        return z, *backward(z)

    return of


def _exported(f, x, w):
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float64) for shape in (x, w))
    return export.export(jax.jit(f), platforms=PLATFORMS)(*shapes)


def _assert_agree(f, exported, image_shape, filter_shape):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(image_shape), rng.standard_normal(filter_shape)
    for got, expected in zip(exported.call(x, w), f(x, w), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


# Between them they are computed in most of the ways there are on a CPU.
SETTINGS = {
    "1x1": ((8, 16), (1, 16, 16), {}),
    "1x1, few channels": ((30, 2), (1, 2, 4), {}),
    "few channels": ((30, 2), (3, 2, 4), {}),
    "3x3": ((8, 8, 8), (3, 3, 8, 16), {}),
    "3x3, stride 2": ((8, 8, 8), (3, 3, 8, 16), {"stride": 2}),
    "images": ((12, 12, 3), (3, 3, 3, 16), {}),
    "images, stride 2": ((14, 14, 3), (7, 7, 3, 8), {"stride": 2}),
    "patches": ((8, 8, 3), (4, 4, 3, 8), {"stride": 4}),
    "as large as the image": ((4, 4, 8), (4, 4, 8, 5), {"padding": "VALID"}),
    "few filters": ((8, 8, 16), (3, 3, 16, 2), {}),
    "dilation": ((9, 9, 4), (3, 3, 4, 4), {"dilation": 2}),
    "groups": ((6, 6, 16), (3, 3, 4, 16), {"groups": 4}),
    "groups, stride 2": ((6, 6, 16), (3, 3, 2, 16), {"groups": 8, "stride": 2}),
    "depthwise": ((8, 8, 16), (3, 3, 1, 16), {"groups": 16}),
    "depthwise, stride 2": ((8, 8, 16), (3, 3, 1, 32), {"groups": 16, "stride": 2}),
    "volumes": ((6, 6, 6, 2), (3, 3, 3, 2, 4), {}),
    "volumes, stride 2": ((5, 4, 4, 2), (3, 3, 3, 2, 4), {"stride": 2}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_convolution_of_a_batch_of_any_size(setting):
    image, filters, options = SETTINGS[setting]
    f = _value_and_gradients(partial(jc.conv, **options))
    (batch,) = export.symbolic_shape("batch")
    exported = _exported(f, (batch, *image), filters)
    _assert_agree(f, exported, (5, *image), filters)


@pytest.mark.parametrize(("size", "stride"), [(4, 4), (4, 2), (3, 2)])
def test_transposed_convolution_of_a_batch_of_any_size(size, stride):
    f = _value_and_gradients(partial(jc.conv_transpose, stride=stride))
    (batch,) = export.symbolic_shape("batch")
    exported = _exported(f, (batch, 6, 6, 4), (size, size, 8, 4))
    _assert_agree(f, exported, (3, 6, 6, 4), (size, size, 8, 4))


@pytest.mark.parametrize(
    ("channels", "filters", "groups"),
    [(8, (3, 3, 8, 16), 1), (3, (3, 3, 3, 8), 1), (8, (3, 3, 1, 8), 8), (8, (1, 1, 8, 4), 1)],
    ids=["3x3", "images", "depthwise", "1x1"],
)
def test_convolution_of_images_of_any_size(channels, filters, groups):
    f = _value_and_gradients(partial(jc.conv, groups=groups))
    exported = _exported(f, (*export.symbolic_shape("n, h, w"), channels), filters)
    _assert_agree(f, exported, (2, 7, 9, channels), filters)


@pytest.mark.parametrize("setting", ["few channels", "patches", "volumes"])
def test_on_a_mesh_a_batch_of_any_size_is_computed_as_one_of_known_size(setting):
    image, filters, options = SETTINGS[setting]
    f = jax.jit(_value_and_gradients(partial(jc.conv, **options)))
    mesh = jax.make_mesh((3,), ("data",), axis_types=(AxisType.Explicit,))

    def primitives(batch):
        x = jax.ShapeDtypeStruct((batch, *image), jnp.float64, sharding=NamedSharding(mesh, P("data")))
        w = jax.ShapeDtypeStruct(filters, jnp.float64, sharding=NamedSharding(mesh, P()))
        return re.findall(r"= (\w+)", str(f.trace(x, w).jaxpr))

    (batch,) = export.symbolic_shape("batch")
    with jax.set_mesh(mesh):
        assert primitives(3 * batch) == primitives(33)


def _assert_exported_agrees(f, *shapes, n=2, h=7, w=6):
    """f and its gradients, exported for arguments whose shapes are strings, at one size, as they are without."""
    scope, rng = export.SymbolicScope(), np.random.default_rng(0)
    types = [jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), jnp.float64) for shape in shapes]
    arrays = [rng.uniform(0.5, 1.5, eval(shape, {"n": n, "h": h, "w": w})) for shape in shapes]

    def value_and_gradients(*args):
        y, backward = jax.vjp(f, *args)
        return y, backward(jnp.cos(y))

    exported = export.export(jax.jit(value_and_gradients))(*types)
    got, expected = jax.jit(lambda *args: (exported.call(*args), value_and_gradients(*args)))(*arrays)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def _lax_max(window, stride, padding):
    return lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding)


def _lax_conv(padding):
    return partial(
        lax.conv_general_dilated, window_strides=(2, 1), padding=padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _loss(op, labels):
    """A loss of scores with labels that are part of the scores' arguments."""
    return lambda z, t: op(z, labels(t))


IMAGES = "n, h, w, 3"
ANY_SIZE = {
    "conv": (partial(jc.conv, stride=2), IMAGES, "3, 3, 3, 4"),
    "conv-valid": (partial(jc.conv, stride=(3, 2), padding="VALID", dilation=(1, 2)), IMAGES, "3, 2, 3, 4"),
    "conv-lower": (partial(jc.conv, stride=3, padding="SAME_LOWER"), IMAGES, "2, 3, 3, 4"),
    "conv-groups": (partial(jc.conv, stride=2, padding=((1, -1), (0, 2)), groups=3), IMAGES, "3, 2, 1, 6"),
    "conv_transpose": (partial(jc.conv_transpose, stride=2, padding=1), IMAGES, "4, 3, 2, 3"),
    "conv_general_dilated": (
        partial(jc.conv_general_dilated, window_strides=(2, 2), padding="SAME"),
        "n, 3, h, w",
        "4, 3, 3, 3",
    ),
    "max_pool": (partial(jc.max_pool, window=2), IMAGES),
    "max_pool-overlapping": (partial(jc.max_pool, window=3, stride=2, padding="SAME"), IMAGES),
    "mean_pool": (partial(jc.mean_pool, window=3), IMAGES),
    "mean_pool-overlapping": (partial(jc.mean_pool, window=3, stride=2, padding="SAME"), IMAGES),
    "mean_pool-inside": (
        partial(jc.mean_pool, window=3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        IMAGES,
    ),
    "weighted_pool": (jc.weighted_pool, IMAGES, "2, 3, 3"),
    "global_max_pool": (jc.global_max_pool, IMAGES),
    "global_mean_pool": (jc.global_mean_pool, IMAGES),
    "adaptive_mean_pool": (partial(jc.adaptive_mean_pool, shape=(2, None)), "n, 2*h, w, 3"),
    "upsample": (partial(jc.upsample, factor=2), IMAGES),
    "pixel_unshuffle": (partial(jc.pixel_unshuffle, factor=2), "n, 2*h, 2*w, 3"),
    "pad": (partial(jc.pad, width=((1, -1), (2, 0))), IMAGES),
    "pad-replicate": (partial(jc.pad, width=2, mode="replicate"), IMAGES),
    "batch_norm": (lambda *args: jc.batch_norm(*args)[0], IMAGES, "3", "3"),
    "group_norm": (partial(jc.group_norm, groups=3), IMAGES, "3", "3"),
    "dense": (lambda x, w: jc.dense(jc.flatten(x), w), IMAGES, "3*h*w, 4"),
    "mean_squared_error": (jc.mean_squared_error, IMAGES, IMAGES),
    "softmax_cross_entropy": (_loss(jc.softmax_cross_entropy, lambda t: t.astype(int)), IMAGES, "n, h, w"),
    "dice": (_loss(jc.dice, lambda t: t.astype(int)), IMAGES, "n, h, w"),
    "sigmoid_cross_entropy": (_loss(jc.sigmoid_cross_entropy, lambda t: t > 1), IMAGES, IMAGES),
    "explicit-max": (explicit(_lax_max((1, 3, 3, 1), (1, 2, 2, 1), "SAME")), "1, h, w, 1"),
    "explicit-max-nchw": (explicit(_lax_max((1, 1, 2, 2), (1, 1, 2, 2), "VALID")), "n, 3, h, w"),
    "explicit-sum": (
        explicit(lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")),
        IMAGES,
    ),
    "explicit-conv": (explicit(_lax_conv("SAME")), IMAGES, "3, 3, 3, 4"),
    "explicit-conv-valid": (explicit(_lax_conv("VALID")), IMAGES, "3, 3, 3, 4"),
}


@pytest.mark.parametrize("name", ANY_SIZE)
def test_images_of_any_size(name):
    _assert_exported_agrees(*ANY_SIZE[name])


def test_a_network_of_any_size():
    model = nn.sequential(
        *(nn.conv(4, 3, stride=2, bias=False), nn.batch_norm(), jc.relu, nn.max_pool(2), nn.conv(3, 3)),
        *(nn.mean_pool(2, padding=1), nn.adaptive_mean_pool(1), nn.flatten(), nn.dense(2)),
    )
    params, state = jax.jit(model.init, static_argnums=1)(jax.random.key(0), (2, 20, 20, 3))
    params, state = jax.tree.map(lambda p: p.astype(jnp.float64), (params, state))
    _assert_exported_agrees(lambda x: model.apply(params, state, x, train=True)[0], IMAGES, h=21, w=26)


# Those of the table that need numbers: where a region, a drawn entry or a place in the image is, or what shape a result
# must have.
OF_KNOWN_SIZE = {
    *("conv_general_dilated", "conv_input_grad", "conv_filter_grad", "upsample-longer", "pixel_unshuffle"),
    *("pixel_unshuffle-1d", "resize", "resize-linear", "resize-linear-3d", "pad-reflect", "max_pool-dilated"),
    *("lp_pool", "max_pool-large-dilated", "max_pool-indices", "mixed_pool", "softmax_pool", "softmax_pool-large"),
    *("stochastic_pool", "stochastic_pool-large", "stochastic_pool_inference", "adaptive_mean_pool"),
    *("adaptive_max_pool", "adaptive_max_pool-ties", "layer_norm-two-axes", "rms_norm-two-axes", "drop_block"),
}
OWN_ARRAYS = ("max_unpool", "weight_norm", "spectral_norm", "l1_penalty", "l2_penalty")  # of the shape, or no images
OF_IMAGES = [case for case in CASES if case not in LOSSES and case.name not in OWN_ARRAYS and case.note != "masked"]


def _symbolic(case, *, image):
    """The arguments of a case, with a batch of symbolic size, and the image of the first one."""
    several = list(zip(case.shapes(3), case.shapes(4), strict=True))
    (n,) = export.symbolic_shape("n")
    shapes = [(n, *b[1:]) if a != b else a for a, b in several]
    if image:
        names = export.symbolic_shape(", ".join(f"s{axis}" for axis in range(1, len(shapes[0]) - 1)), scope=n.scope)
        shapes[0] = (n, *names, shapes[0][-1])
    return [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes]


def _gradients(case):
    def gradients(*args):
        y, backward = jax.vjp(case.f, *args)
        return backward(y)

    return gradients


@pytest.mark.parametrize("case", OF_IMAGES, ids=str)
def test_symbolic_sizes_work_or_are_refused_in_one_sentence(case):
    has_image = len(case.shapes(3)[0]) > 2
    if str(case) in OF_KNOWN_SIZE:
        with pytest.raises(ValueError, match=r"^conv_general_dilated .* does not divide|^[a-z_]*: .* must be .*, got "):
            jax.eval_shape(_gradients(case), *_symbolic(case, image=True))
        has_image = False
    types = _symbolic(case, image=has_image)
    assert [g.shape for g in jax.eval_shape(_gradients(case), *types)] == [t.shape for t in types]


@pytest.mark.parametrize(
    ("f", "argument"),
    [
        (partial(jc.conv, w=np.ones((3, 3, 2)), padding=-2), "padding"),
        (partial(jc.mean_pool, window=2, padding=-1), "padding"),
        (partial(jc.conv_transpose, w=np.ones((3, 2, 3)), padding=5), "padding"),
        (partial(jc.pad, width=-1), "width"),
        (partial(jc.pad, width=2, mode="reflect"), "x"),
        (partial(jc.resize, shape=4), "x"),
        (partial(jc.adaptive_mean_pool, shape=2), "x"),
        (partial(jc.pixel_unshuffle, factor=2), "x"),
    ],
)
def test_what_an_image_of_symbolic_size_may_be_too_small_for(f, argument):
    """What is known of the size in other ways, as a constraint, is enough."""
    h, enough = export.symbolic_shape("h, 4*k", constraints=["4*k >= 12"])
    with pytest.raises(ValueError, match=rf"^{f.func.__name__}: {argument} must be .*h"):
        jax.eval_shape(f, jax.ShapeDtypeStruct((1, h, 3), jnp.float64))
    if f.func is jc.pixel_unshuffle:
        with pytest.raises(ValueError, match=r"export with 2\*h in the place of h"):
            jax.eval_shape(f, jax.ShapeDtypeStruct((1, h, 3), jnp.float64))
    if f.func is not jc.resize:
        assert jax.eval_shape(f, jax.ShapeDtypeStruct((1, enough, 3), jnp.float64)).ndim == 3
