"""What an op keeps for its backward pass: shapes and dtypes, and so bytes."""

import jax
import jax.numpy as jnp
import pytest

import jaxcnn as jc

X, Y, CHANNELS = (2, 8, 6, 5), (2, 4, 3, 5), (1, 1, 1, 5)
KEEPS = {
    "conv": (lambda x: jc.conv(x, jnp.ones((3, 3, 5, 1), jnp.float32)), [(X, "float32"), ((3, 3, 5, 1), "float32")]),
    "max_pool": (lambda x: jc.max_pool(x, 2), [(Y, "int8")]),
    "max_pool, 64 entries": (lambda x: jc.max_pool(x, 8, padding=((0, 0), (1, 1))), [((2, 1, 1, 5), "int8")]),
    "max_pool, 65 entries": (lambda x: jc.max_pool(x, (13, 5), padding=3), [((2, 1, 2, 5), "int32")]),
    "mean_pool": (lambda x: jc.mean_pool(x, 2), []),
    "global_mean_pool": (jc.global_mean_pool, []),
    "downsample": (lambda x: jc.downsample(x, 2), []),
    "upsample": (lambda x: jc.upsample(x, 2), []),
    "resize": (lambda x: jc.resize(x, 5, "linear"), []),
    "pad": (lambda x: jc.pad(x, 2, "reflect"), []),
    "flatten": (jc.flatten, []),
    "relu": (jc.relu, [(X, "bool")]),
    "sigmoid": (jc.sigmoid, [(X, "float32")]),
    "gelu": (jc.gelu, [(X, "float32")]),
    "batch_norm": (
        lambda x: jc.batch_norm(x, jnp.ones(5, jnp.float32), jnp.ones(5, jnp.float32))[0],
        [(X, "float32"), *[(CHANNELS, "float32")] * 4],
    ),
}


@pytest.mark.parametrize("name", KEEPS)
def test_what_is_kept(name):
    f, expected = KEEPS[name]
    _, vjp = jax.vjp(f, jnp.ones(X, jnp.float32))
    kept = [(leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(vjp) if leaf.size]
    assert sorted(kept) == sorted(expected)
