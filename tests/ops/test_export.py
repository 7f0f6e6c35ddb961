"""Ops exported for arrays of any size, for several platforms at once."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxcnn as jc

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
