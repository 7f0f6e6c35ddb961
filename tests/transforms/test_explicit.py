"""explicit(f): the same function with our ops in it. The oracle is f itself, and the gradient that JAX derives of it.

Where the rules are ours is seen in two ways: how many custom VJPs are in the jaxpr, and what becomes of the gradient
when a rule is broken on purpose.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import check_jaxpr, jaxprs_in_params, primitives
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxcnn
from jaxcnn import derived, explicit, explicit_report
from jaxcnn.ops import general_convolution, max_pooling, mean_pooling

compiled = partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
rng = np.random.default_rng(0)
x, w = jnp.asarray(rng.normal(size=(2, 3, 6, 5))), jnp.asarray(rng.normal(size=(3, 3, 3, 2)))


def conv(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME")


def pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "SAME")


def mean(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 1, 3, 2), (1, 1, 1, 1), "SAME") / 6


def net(x, w):
    return mean(pool(conv(x, w)))


def loss(x, w):
    return jnp.sum(jnp.sin(net(x, w)))


def rules(f, *args):
    """How many custom VJPs there are in a function, whose jaxpr is well-formed, not counting those inside others."""

    def count(jaxpr):
        return sum(
            1 if eqn.primitive is primitives.custom_vjp_call_p else sum(map(count, jaxprs_in_params(eqn.params)))
            for eqn in jaxpr.eqns
        )

    jaxpr = jax.make_jaxpr(f)(*args).jaxpr
    check_jaxpr(jaxpr)
    return count(jaxpr)


def weighted(f):
    """The sum of the results of f, each entry with another weight."""
    return lambda *args: sum(
        jnp.sum(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape) * y) for y in jax.tree.leaves(f(*args))
    )


def assert_close(got, expected, rtol=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        b = np.asarray(b)
        largest = np.max(np.abs(b), where=np.isfinite(b), initial=0.0)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0.1 * rtol * largest, strict=True)


def assert_same(f, *args, differentiable=True):
    """Results, their types, and the gradients by all arguments, in one program."""
    assert jax.eval_shape(explicit(f), *args) == jax.eval_shape(f, *args)
    argnums = tuple(range(len(args)))

    def results(g):
        return g(*args), jax.grad(weighted(g), argnums)(*args) if differentiable else None

    ours, theirs = compiled(lambda: (results(explicit(f)), results(f)))()
    assert_close(ours, theirs)


# Every nesting


@jax.custom_jvp
def doubled(x, w):
    return net(x, w)


@doubled.defjvp
def _(primals, tangents):
    y, dy = jax.jvp(net, primals, tangents)
    return y, 2 * dy


@jax.custom_vjp
def tripled(x, w):
    return net(x, w)


def _tripled_bwd(backward, dy):
    return tuple(3 * g for g in backward(dy))


tripled.defvjp(lambda x, w: jax.vjp(net, x, w), _tripled_bwd)


def through_while(x, w):
    return lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, net(c[1], w)), (0, x))[1]


def shard_mapped(f, **options):
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    return jax.shard_map(f, mesh=mesh, in_specs=(P("batch"), P()), out_specs=P("batch"), **options)


SAVED = jax.checkpoint_policies.everything_saveable
NESTINGS = {
    "bare": lambda net: net,
    "jit": jax.jit,
    "remat": jax.checkpoint,
    "remat, policy": partial(jax.checkpoint, policy=SAVED, prevent_cse=False),
    "cond": lambda net: lambda x, w: lax.cond(x[0, 0, 0, 0] < 9, net, lambda x, w: x, x, w),
    "switch": lambda net: lambda x, w: lax.switch(jnp.int32(1), [lambda x, w: pool(x), net], x, w),
    "map": lambda net: lambda x, w: lax.map(lambda x: net(x[None], w)[0], x),
    "vmap": lambda net: lambda x, w: jax.vmap(net, (0, None))(jnp.stack([x, 2 * x]), w),
    "vmap of filters": lambda net: lambda x, w: jax.vmap(net, (None, 0))(x, jnp.stack([w, 2 * w])),
    "vmap of both": lambda net: lambda x, w: jax.vmap(net, (1, 3), 2)(jnp.stack([x, -x], 1), jnp.stack([w, w**2], 3)),
    "shard_map": shard_mapped,
    "shard_map, unchecked": partial(shard_mapped, check_vma=False),
    "scan": lambda net: lambda x, w: lax.scan(lambda c, _: (net(c, w), jnp.sum(c)), x, None, length=2),
    "fori_loop": lambda net: lambda x, w: lax.fori_loop(0, 2, lambda i, c: net(c, w), x),
    "custom_jvp": lambda net: doubled,
    "custom_vjp": lambda net: tripled,
    "everything": lambda net: through_everything(net),
}


def through_everything(net):
    @jax.checkpoint
    def step(carry, w):
        return lax.cond(carry.sum() > 0, jax.jit(net), jax.checkpoint(net), carry, w), jnp.sum(carry)

    return jax.jit(lambda x, w: lax.scan(lambda c, _: step(c, w), x, None, length=2))


@pytest.mark.parametrize("name", NESTINGS)
def test_nested(name):
    f = NESTINGS[name](net)
    inside = {"custom_vjp": 1, "switch": 4, "everything": 6}.get(name, 3)  # of a custom VJP none counts
    assert_same(f, x, w)
    assert rules(explicit(f), x, w) == inside
    assert len(explicit_report(f, x, w).replaced) == max(3, inside)


def test_while_loop():
    assert_same(through_while, x, w, differentiable=False)
    assert rules(explicit(through_while), x, w) == 3


def test_not_compiled():
    """Each operation by itself, as it is without `jit`; shard_map among them."""
    for f in (net, shard_mapped(conv)):
        assert_close(explicit(f)(x, w), f(x, w))
    assert_close(jax.grad(weighted(explicit(conv)), 1)(x, w), jax.grad(weighted(conv), 1)(x, w))


@pytest.mark.parametrize("name", [name for name in NESTINGS if not name.startswith("custom")])
def test_broken_rules_show(name, patch):
    """Three ops are on the way to w; where f goes through them twice, by way of x as well, there is no one factor."""
    for module, part in (
        (general_convolution, "filter_grad"),
        (max_pooling, "add_at_maximum"),
        (mean_pooling, "add_shares"),
    ):
        right = getattr(module, part)
        patch(module, part, partial(lambda rule, *args: 3 * rule(*args), right))
    f = NESTINGS[name](lambda x, w: net(x, w))  # not what JAX may have traced with the right rules
    got, right = compiled(lambda: [jax.grad(weighted(g), 1)(x, w) for g in (explicit(f), f)])()
    if name in ("scan", "fori_loop", "everything"):
        assert np.all(np.abs(got - right) > np.abs(right))
    else:
        assert_close(got, 27 * right)


@pytest.mark.parametrize("name", ["remat", "cond", "scan", "shard_map", "everything"])
def test_what_jax_cannot_derive(name):
    """A dilated maximum, of which JAX derives no gradient, in every jaxpr that it gets into."""

    def dilated(x, w):
        options = {"padding": ((0, 0), (0, 0), (1, 1), (1, 1)), "window_dilation": (1, 1, 2, 2)}
        return lax.reduce_window(x * w, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 1), **options)

    f = NESTINGS[name](dilated)
    assert_same(f, x, x, differentiable=False)
    gradient = compiled(jax.grad(weighted(explicit(f))))(x, x)  # JAX has none
    assert np.max(np.abs(gradient)) > 0


# Every configuration


def ints(rng, low, high, number):
    return tuple(map(int, rng.integers(low, high, size=number)))


def random_convolution(rng):
    """A call of lax with axes in any order, and the shapes of its arguments."""

    def one_of(*choices):
        return choices[rng.integers(len(choices))]

    rank = one_of(1, 2, 2, 2, 3)
    feature_groups, batch_groups = one_of((1, 1), (1, 1), (2, 1), (3, 1), (1, 2))
    filters, channels = feature_groups * batch_groups * one_of(1, 2), feature_groups * one_of(1, 2)
    image, size = ints(rng, 5, 9 - rank, rank), ints(rng, 1, 4, rank)
    specs = [tuple(map(int, rng.permutation(rank + 2))) for _ in range(3)]

    def placed(spec, *lengths):
        return tuple(length for _, length in sorted(zip(spec, lengths, strict=True)))

    lhs = placed(specs[0], 2 * batch_groups, channels, *image)
    rhs = placed(specs[1], filters, channels // feature_groups, *size)
    named = rng.random() < 0.3
    options = {
        "window_strides": ints(rng, 1, 4, rank),
        "padding": one_of("SAME", "VALID") if named else [ints(rng, -1, 3, 2) for _ in range(rank)],
        "lhs_dilation": None if named else ints(rng, 1, 3, rank),
        "rhs_dilation": ints(rng, 1, 3, rank),
        "dimension_numbers": lax.ConvDimensionNumbers(*specs),
        "feature_group_count": feature_groups,
        "batch_group_count": batch_groups,
        "precision": one_of(None, "highest", lax.Precision.HIGH, ("default", "highest")),
        "preferred_element_type": one_of(None, jnp.float64),
    }
    return partial(lax.conv_general_dilated, **options), (lhs, rhs)


@pytest.mark.parametrize("seed", range(3))
def test_any_convolution(seed):
    """Six at once, in one program."""
    rng = np.random.default_rng(seed)
    calls, shapes = zip(*(random_convolution(rng) for _ in range(6)), strict=True)
    args = [[jnp.asarray(rng.normal(size=shape)) for shape in pair] for pair in shapes]

    def f(args):
        return [call(*pair) for call, pair in zip(calls, args, strict=True)]

    assert_same(f, args)
    assert rules(explicit(f), args) == sum(y.size > 0 for y in jax.eval_shape(f, args)) >= 4


def random_pool(rng, reduction):
    """A call of lax with a window over any of the axes, and the shape of its argument."""
    rank = int(rng.integers(1, 6))
    slides = rng.random(rank) < 0.6
    window, stride, dilation = (np.where(slides, rng.integers(1, 4, size=rank), 1) for _ in range(3))
    dilation = np.minimum(dilation, 2 if reduction is lax.max else 1)
    extent = (window - 1) * dilation + 1
    low, high = (rng.integers(0, 3, size=rank) % window for _ in range(2))
    shape = extent + rng.integers(1 if rank > 3 else 3, size=rank) + 1
    vectors = {"window_dimensions": window, "window_strides": stride, "window_dilation": dilation}
    options = {name: tuple(vector.tolist()) for name, vector in vectors.items()}
    options["padding"] = tuple(zip(low.tolist(), high.tolist(), strict=True))
    start = -np.inf if reduction is lax.max else 0.0
    return partial(lax.reduce_window, init_value=start, computation=reduction, **options), tuple(shape.tolist())


@pytest.mark.parametrize("reduction", [lax.max, lax.add], ids=["max", "sum"])
@pytest.mark.parametrize("seed", range(2))
def test_any_pool(seed, reduction):
    """Ten at once; where the window is dilated JAX has no gradient of the maximum."""
    rng = np.random.default_rng(seed)
    calls, shapes = zip(*(random_pool(rng, reduction) for _ in range(10)), strict=True)
    args = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
    dilated = [max(call.keywords["window_dilation"]) > 1 for call in calls]

    def pools(*kinds):
        return lambda args: [call(x) for call, x, kind in zip(calls, args, dilated, strict=True) if kind in kinds]

    assert_same(pools(True), args, differentiable=False)
    assert_same(pools(False), args)
    report = explicit_report(pools(True, False), args)
    assert len(report.replaced) >= 8
    assert {kept.note for kept in report.kept} <= {"its window is a single entry"}
    assert rules(explicit(pools(True, False)), args) == len(report.replaced)


def window(start, reduction, sizes=(1, 1, 2, 2), padding="SAME", **options):
    return lambda x: lax.reduce_window(x, start, reduction, sizes, (1, 1, 1, 1), padding, **options)


OUTSIDE = ((0, 0), (0, 0), (3, 0), (0, 0))
KEPT = [
    ("conv_general_dilated", "it has int32, not floating-point numbers", lambda x: conv(*map(jnp.int32, (x, w)))),
    ("conv_general_dilated", "it has complex128, not", lambda x: conv(*map(jnp.complex128, (x, w)))),
    ("conv_general_dilated", "it has no entries", lambda x: conv(x[:0], w)),
    ("reduce_window_max", "it has int32, not", lambda x: window(np.int32(-(2**31)), lax.max)(jnp.int32(x))),
    ("reduce_window_max", "zeros between the entries", window(-np.inf, lax.max, base_dilation=(1, 1, 2, 1))),
    ("reduce_window_max", "window is a single entry", window(-np.inf, lax.max, (1, 1, 1, 1))),
    ("reduce_window_max", "sees an entry of the image", window(-np.inf, lax.max, padding=OUTSIDE)),
    ("reduce_window_sum", "with window_dilation", window(0.0, lax.add, window_dilation=(1, 1, 2, 1))),
    ("reduce_window_min", "it is a minimum", window(np.inf, lax.min)),
    ("reduce_window", "it starts from 1.5, not -inf", window(1.5, lax.max)),
    ("reduce_window", "known at run time only", lambda x: window(x[0, 0, 0, 0], lax.max)(x)),
    ("reduce_window", "it is no maximum and no sum", window(1.0, lax.mul)),
    ("reduce_window", "it is no maximum and no sum", window(0.0, lambda a, b: a + b + a)),
    ("select_and_scatter_add", "a gradient that the function takes itself", jax.grad(lambda x: jnp.sum(pool(x)))),
]


@pytest.mark.parametrize(("name", "reason", "f"), KEPT)
def test_kept(name, reason, f):
    (operation,) = [found for found in explicit_report(f, x).kept if found.name == name]
    assert reason in operation.note
    assert_same(f, x, differentiable=False)


def test_a_reduction_that_is_written_out():
    """JAX has no gradient of these: that of the named ones."""
    for reduction, start, named in ((lambda a, b: jnp.maximum(b, a), -np.inf, lax.max), (jnp.add, 0.0, lax.add)):
        f, g = (window(start, function) for function in (reduction, named))
        assert explicit_report(f, x).replaced[0].name == "reduce_window"
        got, expected = (jax.value_and_grad(weighted(h))(x) for h in (explicit(f), g))
        assert_close(got, expected)


def test_a_solver_stays():
    """JAX transposes the functions inside it."""

    def f(w, b):
        return jax.scipy.sparse.linalg.cg(lambda v: v + 0.01 * conv(v, w), conv(b, w), maxiter=3)[0]

    square = jnp.asarray(rng.normal(size=(3, 3, 3, 3)))
    assert_same(f, square, x)
    report = explicit_report(f, square, x)
    assert len(report.replaced) == 1
    assert {operation.note for operation in report.kept} == {
        "it is in a custom_linear_solve, whose functions JAX transposes"
    }


# What stays as it was


def test_what_has_no_convolution_stays_as_it_is():
    f = jax.jit(lambda x: lax.scan(lambda c, x: (c + x, jnp.sin(x)), 0.0, x))
    ours, theirs = (jax.make_jaxpr(g)(jnp.ones(3)) for g in (explicit(f), f))
    assert str(ours) == str(theirs)
    assert ours.eqns[0].params["jaxpr"] is theirs.eqns[0].params["jaxpr"]


def test_our_own_ops_stay():
    def f(x, w):
        z = jaxcnn.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NHWC"))
        return jaxcnn.mean_pool(jaxcnn.max_pool(z, 2), 2)

    assert str(jax.make_jaxpr(explicit(f))(x, w)) == str(jax.make_jaxpr(f)(x, w))
    assert explicit_report(f, x, w) == jaxcnn.transforms.ExplicitReport((), ())
    assert rules(explicit(explicit(net)), x, w) == 3
    assert rules(derived(explicit(net)), x, w) == 0


@pytest.mark.parametrize(
    "f",
    [
        net,
        lambda x, w: lax.fori_loop(0, 2, lambda i, c: net(c, w), x),
        lambda x, w: lax.scan(lambda c, _: (net(c, w), None), x, None, length=2)[0],
        lambda x, w: lax.cond(x[0, 0, 0, 0] < 9, net, lambda x, w: x, x, w),
    ],
)
def test_weak_types_stay(f):
    weak = jnp.broadcast_to(1.0, x.shape), jnp.broadcast_to(0.1, w.shape)
    assert_same(f, *weak)
    assert jax.eval_shape(explicit(f), *weak).weak_type


def test_effects_happen_in_order():
    seen = []

    def note(name):
        jax.experimental.io_callback(lambda: seen.append(name), None, ordered=True)

    def f(x, w):
        note("before")
        y = lax.fori_loop(0, 2, lambda i, c: (note("loop"), net(c, w))[1], net(x, w))
        jax.debug.callback(lambda y: seen.append(y.shape), y, ordered=True)
        return y

    for g in (f, explicit(f), jax.jit(explicit(f))):
        g(x, w).block_until_ready()
        jax.effects_barrier()
    assert seen == ["before", "loop", "loop", x.shape] * 3


def test_references_are_written_to():
    total = jax.new_ref(jnp.zeros(()))

    def f(ref, x, w):
        ref[...] = net(ref[...] + x, w)
        total[...] += ref[...].sum()

    expected = net(x, w)
    for call in (explicit(f), jax.jit(explicit(f))):
        ref = jax.new_ref(jnp.zeros_like(x))
        call(ref, x, w)
        assert_close(ref[...], expected)
    assert_close(total[...], 2 * expected.sum())


def test_names_stay():
    def block(x, w):
        with jax.named_scope("scope"):
            return checkpoint_name(net(x, w), "saved")

    def f(x, w):
        return jax.jit(block)(x, w)

    text = jax.jit(explicit(f)).lower(x, w).as_text(debug_info=True)
    assert jax.jit(explicit(f)).__name__ == "f"
    assert "@block" in text
    assert "scope" in text
    assert "name=saved" in str(jax.make_jaxpr(explicit(f))(x, w))
    assert all(found.where == "jit(block) / scope" for found in explicit_report(f, x, w).replaced)


def test_nothing_is_left_at_run_time():
    """What is compiled is what the same calls of our ops compile to."""
    nhwc, flat = jnp.asarray(rng.normal(size=(2, 6, 5, 4))), jnp.asarray(rng.normal(size=(3, 3, 4, 6)))

    def theirs(x, w):
        z = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return lax.reduce_window(z, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def ours(x, w):
        z = jaxcnn.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jaxcnn.max_pool(z, 2)

    for wrapped in (lambda f: f, lambda f: jax.grad(weighted(f), (0, 1))):
        as_text = [jax.jit(wrapped(f)).lower(nhwc, flat).as_text() for f in (explicit(theirs), ours)]
        ours_and_theirs = [sorted(re.findall(r" = ([\w.]+)", text)) for text in as_text]
        assert ours_and_theirs[0] == ours_and_theirs[1]


def test_what_was_compiled_is_not_compiled_again():
    f = jax.jit(net)
    first, second = (jax.make_jaxpr(explicit(f))(x, w).eqns[0].params["jaxpr"] for _ in range(2))
    assert first is second


# How it is called


def test_anything_goes_in_and_comes_out():
    def f(name, pair, *, train, activation, power, nothing=None):
        assert (name, train, nothing) == ("name", True, None)
        y = activation(net(pair["x"], pair["w"])) ** power
        return {"y": y, "name": name, "number": 3, "array": np.arange(3), "f": activation, "none": None}

    def g(f, pair):
        return f("name", pair, train=True, activation=jnp.tanh)

    out, expected = g(explicit(partial(f, power=2)), {"x": x, "w": w}), g(partial(f, power=2), {"x": x, "w": w})
    assert_close(out.pop("y"), expected.pop("y"))
    assert type(out.pop("array")) is type(expected.pop("array")) is np.ndarray
    assert out == expected
    gradient = jax.grad(lambda pair: jnp.sum(g(explicit(partial(f, power=2)), pair)["y"]))({"x": x, "w": w})
    assert_close(gradient, jax.grad(lambda pair: jnp.sum(g(partial(f, power=2), pair)["y"]))({"x": x, "w": w}))


def test_random_keys():
    def f(key, x):
        key, other = jax.random.split(key)
        return other, net(x + jax.random.normal(key, x.shape), w)

    key = jax.random.key(0)
    (ours, y), (theirs, z) = compiled(explicit(f))(key, x), compiled(f)(key, x)
    assert jnp.all(ours == theirs)
    assert_close(y, z)


def test_closed_over_tracers():
    gradient = compiled(lambda x: jax.grad(lambda w: explicit(lambda: loss(x, w))())(w))
    assert_close(gradient(x), compiled(jax.grad(loss, 1))(x, w))


def test_from_outside():
    each = x[:, None]

    def summed(x):
        return lax.psum(net(x, w), "images")

    def all_of(transform):
        def body(total, x):
            y = transform(net)(x, w)
            return total + jnp.sum(y), y

        mapped = jax.vmap(jax.value_and_grad(transform(loss)), (0, None))(each, w)
        remat = jax.grad(jax.checkpoint(transform(loss)))(x, w)
        return mapped, lax.scan(body, 0.0, each), remat, jax.vmap(transform(summed), axis_name="images")(each)

    ours, theirs = compiled(lambda: (all_of(explicit), all_of(lambda f: f)))()
    assert_close(ours, theirs)


def test_second_order():
    def norm(f):
        return lambda w: jnp.sum(jax.grad(f, 1)(x, w) ** 2)

    direction = jnp.cos(w)

    def both(f):
        return jax.grad(norm(f))(w), jax.jvp(jax.grad(lambda w: f(x, w)), (w,), (direction,))

    inside, ours, theirs = compiled(lambda: (jax.grad(explicit(norm(loss)))(w), both(explicit(loss)), both(loss)))()
    assert_close(ours, theirs)
    assert_close(inside, theirs[0])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_on_a_mesh(kind):
    """Results and gradients lie where they would."""
    images = jnp.asarray(rng.normal(size=(8, 3, 6, 5)))
    expected = net(images, w), jax.grad(loss, (0, 1))(images, w)
    with jax.set_mesh(jax.make_mesh((8,), ("batch",), axis_types=(kind,))):
        spread = jax.device_put(images, P("batch")), jax.device_put(w, P())
        got = compiled(lambda x, w: (explicit(net)(x, w), jax.grad(explicit(loss), (0, 1))(x, w)))(*spread)
        assert jax.eval_shape(explicit(net), *spread) == jax.eval_shape(net, *spread)
        assert rules(explicit(net), *spread) == 3
    assert_close(got, expected)
    assert got[0].sharding.spec[0] == got[1][0].sharding.spec[0] == "batch"


def test_filters_over_explicit_axes():
    """Results lie where the function says."""

    def f(x, w):
        dimensions = ("NHWC", "HWIO", "NHWC")
        z = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=dimensions, out_sharding=P("batch"))
        return lax.reduce_window(z, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")

    images, filters = jnp.asarray(rng.normal(size=(8, 6, 5, 4))), jnp.asarray(rng.normal(size=(3, 3, 4, 6)))
    with jax.set_mesh(jax.make_mesh((1,), ("batch",))):
        expected = compiled(f)(images, filters)
    with jax.set_mesh(jax.make_mesh((4, 2), ("batch", "model"))):
        spread = jax.device_put(images, P("batch")), jax.device_put(filters, P(None, None, None, "model"))
        assert jax.eval_shape(explicit(f), *spread) == jax.eval_shape(f, *spread)
        got, dw = compiled(lambda x, w: (explicit(f)(x, w), jax.grad(weighted(explicit(f)), 1)(x, w)))(*spread)
    assert_close(got, expected)
    assert jax.typeof(dw).sharding.spec == P(None, None, None, "model")


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_in_shard_map(kind):
    """Called inside, and around one in which the loss is summed over the devices."""
    images = jnp.asarray(rng.normal(size=(8, 3, 6, 5)))
    expected = jax.grad(loss, (0, 1))(images, w)
    with jax.set_mesh(jax.make_mesh((8,), ("batch",), axis_types=(kind,))):
        spread = jax.device_put(images, P("batch")), jax.device_put(w, P())

        def total(f):
            return jax.shard_map(lambda x, w: lax.psum(f(x, w), "batch"), in_specs=(P("batch"), P()), out_specs=P())

        for f in (total(explicit(loss)), explicit(total(loss))):
            assert rules(f, *spread) == 3
            assert_close(compiled(jax.grad(f, (0, 1)))(*spread), expected)


def test_report():
    report = explicit_report(NESTINGS["everything"](net), jax.ShapeDtypeStruct(x.shape, x.dtype), w)
    assert len(report.replaced) == 6
    assert not report.kept
    assert report.replaced[-1].where.endswith("scan / remat / cond / jit(net)")
    assert str(report).splitlines()[:2] == [
        "replaced: 6",
        "  conv_general_dilated float64[2,3,6,5] float64[3,3,3,2] in jit(<lambda>) / scan / remat / cond / remat",
    ]
    noted = {operation.note for operation in explicit_report(doubled, x, w).replaced}
    assert noted == {"the gradient is that of the custom_jvp around it"}


@pytest.mark.parametrize("f", [explicit, explicit_report])
def test_bad_call(f):
    with pytest.raises(TypeError) as raised:
        f(3)
    assert str(raised.value) == f"{f.__name__}: f must be callable, got int 3"


def test_half_precision():
    """In the dtypes of f, and as precise. Without a maximum: which entry is the largest depends on rounding."""

    def gradients(f, *args):
        return compiled(jax.grad(weighted(f), (0, 1)))(*args)

    def f(x, w):
        return mean(conv(x, w))

    half = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    assert jax.eval_shape(explicit(f), *half) == jax.eval_shape(f, *half)
    for got, right in zip(gradients(explicit(f), *half), gradients(f, x, w), strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(np.float64), right, rtol=0, atol=0.03 * np.max(np.abs(right)))
