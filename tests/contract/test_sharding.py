"""Every op on arrays that are spread over devices: meshes with Auto and with Explicit axes, and `shard_map`.

The oracle is the same call on one device. In `shard_map` each device calls the op for its own part of the batch: the
oracle is one call after the other, and the gradient of what all of them share is the sum.
"""

import re
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from table import CASES, RULE_OF_RELU

import jaxcnn as jc

DEVICES = 4
compiled = partial(jax.jit, compiler_options=QUICK_TO_COMPILE)


def split_axes(shapes_of):
    """For each of the arrays whose shapes depend on the batch, how it is spread: along the axis that does."""
    pairs = zip(shapes_of(DEVICES), shapes_of(2 * DEVICES), strict=True)
    return tuple(P(*("batch" if m != n else None for m, n in zip(*pair, strict=True))) for pair in pairs)


def is_float(array):
    return jnp.issubdtype(array.dtype, jnp.floating)


def value_and_gradients(f):
    """(value, gradients) of ⟨dy, f⟩, of a function of arrays; integers among its results have no dy."""

    def both(dy, args):
        def floats_and_integers(*args):
            leaves = jax.tree.leaves(f(*args))
            return [y for y in leaves if is_float(y)], [y for y in leaves if not is_float(y)]

        y, backward, integers = jax.vjp(floats_and_integers, *args, has_aux=True)
        return (y, integers), backward(dy)

    return both


def results(f, *args):
    return [y for y in jax.tree.leaves(jax.eval_shape(f, *args)) if is_float(y)]


def normal(likes, *leading):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(*leading, *y.shape)), y.dtype) for y in likes]


def assert_close(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        b = np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11 * np.max(np.abs(b), initial=0.0), strict=True)


def mesh_of(kind, **axes):
    return jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(kind,) * len(axes))


def run_on_mesh(mesh, f, dy, dy_specs, args, specs):
    """The value and gradients of f as computed on the mesh, and the collectives of the program that did."""
    with jax.set_mesh(mesh):
        dy, args = (
            [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(arrays, arrays_specs, strict=True)]
            for arrays, arrays_specs in ((dy, dy_specs), (args, specs))
        )
        program = compiled(value_and_gradients(f)).lower(dy, args).compile()
        return program(dy, args), collectives(program.as_text())


def collectives(text):
    names = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    return Counter(re.findall(rf" ({names})(?:-start)?\(", text))


def one_of_each_way(cases):
    """One of each op, and those that are computed in another way."""
    found = {}
    for case in cases:
        other_way = any(word in str(case) for word in ("grouped", "large", "dilated"))
        if case.name not in RULE_OF_RELU:
            found.setdefault(str(case) if other_way else case.name, case)
    return list(found.values())


def has_a_batch_to_spread(case):
    lengths = [
        n
        for shape, spec in zip(case.shapes(DEVICES), split_axes(case.shapes), strict=True)
        for n, name in zip(shape, spec, strict=True)
        if name
    ]
    return lengths and not any(n % DEVICES for n in lengths)


def kinds_of_mesh(case):
    """Explicit axes for all; Auto axes, which are what a rule sees of Explicit ones, for what looks at the mesh."""
    looks_at_the_mesh = "conv" in case.name or "pool" in case.name
    return (AxisType.Auto, AxisType.Explicit) if looks_at_the_mesh else (AxisType.Explicit,)


def cases():
    return pytest.mark.parametrize("case", one_of_each_way(filter(has_a_batch_to_spread, CASES)), ids=str)


@cases()
def test_batch_over_devices(case):
    args = case.args(batch=DEVICES)
    specs, dy_specs = (
        split_axes(case.shapes),
        split_axes(lambda n: [y.shape for y in results(case.f, *case.args(batch=n))]),
    )
    dy = normal(results(case.f, *args))
    expected = compiled(value_and_gradients(case.f))(dy, args)
    for kind in kinds_of_mesh(case):
        got, found = run_on_mesh(mesh_of(kind, batch=DEVICES), case.f, dy, dy_specs, args, specs)
        assert_close(got, expected)
        assert not set(found) - {"all-reduce"}, f"{kind}: {found}"
    assert [jax.typeof(dx).sharding.spec for dx in got[1]] == list(specs)


@cases()
def test_shard_map(case):
    specs = split_axes(case.shapes)
    args = case.args(batch=DEVICES)

    def part(array, spec, device):
        return np.split(array, DEVICES, axis=spec.index("batch"))[device] if "batch" in spec else array

    parts = [[part(a, spec, device) for a, spec in zip(args, specs, strict=True)] for device in range(DEVICES)]
    dy = normal(results(case.f, *parts[0]), DEVICES)
    one = compiled(value_and_gradients(case.f))
    values, gradients = zip(*(one([d[device] for d in dy], parts[device]) for device in range(DEVICES)), strict=True)
    values = jax.tree.map(lambda *leaves: np.stack(leaves), *values)
    gradients = [
        np.concatenate(dx, axis=spec.index("batch")) if "batch" in spec else sum(dx)
        for dx, spec in zip(zip(*gradients, strict=True), specs, strict=True)
    ]

    def on_device(dy, args):
        value, gradients = value_and_gradients(case.f)([d[0] for d in dy], args)
        return jax.tree.map(lambda y: y[None], value), gradients

    mesh = mesh_of(AxisType.Auto, batch=DEVICES)
    spread = jax.shard_map(on_device, mesh=mesh, in_specs=(P("batch"), specs), out_specs=(P("batch"), specs))
    assert_close(compiled(spread)(dy, args), (values, gradients))


EXAMPLES = 4  # one on each device


def assert_same_on_meshes(f, axes, args, kinds):
    """The vmap of f with its mapped arguments split over devices computes what it computes on one device."""
    per_example = jax.vmap(f, axes)
    expected = compiled(per_example)(*args)
    for kind in kinds:
        mesh = mesh_of(kind, examples=EXAMPLES)
        specs = [P() if axis is None else P("examples") for axis in axes]
        with jax.set_mesh(mesh):
            spread = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(args, specs, strict=True)]
            assert_close(compiled(per_example)(*spread), expected)


def squares(f):
    return lambda *args: sum(jnp.sum(y**2) for y in jax.tree.leaves(f(*args)) if is_float(y))


def gradients(f, args):
    return jax.grad(squares(f), tuple(range(len(args))))


def has_gradients_of_its_own(case):
    """Whether it has parameters; or a maximum, whose gradient is put where it was found."""
    return len(case.args()) > 1 or case.name in ("max_pool", "global_max_pool")


@pytest.mark.parametrize("case", one_of_each_way(filter(has_gradients_of_its_own, CASES)), ids=str)
def test_gradients_per_example(case):
    """As in differentially private training and neural tangent kernels: every example is a batch of its own."""
    x, *parameters = case.args(batch=1)
    args = jnp.stack([x * (1 + i / 8) for i in range(EXAMPLES)]), *parameters
    kinds = kinds_of_mesh(case) if parameters else (AxisType.Explicit,)
    assert_same_on_meshes(gradients(case.f, args), (0, *(None for _ in parameters)), args, kinds)


ONE_EXAMPLE = {  # the shapes of one image and of filters
    "conv": (jc.conv, (1, 4, 3, 2), (3, 2, 2, 4)),
    "of one channel": (jc.conv, (1, 4, 3, 1), (3, 2, 1, 4)),
    "to one channel": (jc.conv, (1, 4, 3, 2), (3, 2, 2, 1)),
    "1d": (jc.conv, (1, 5, 2), (3, 2, 4)),
    "3d": (jc.conv, (1, 3, 4, 3, 2), (3, 2, 2, 2, 4)),
    "as large as the image": (partial(jc.conv, padding="VALID"), (1, 4, 3, 2), (4, 3, 2, 4)),
    "1x1": (jc.conv, (1, 4, 3, 2), (1, 1, 2, 4)),
    "1x1 in 1d": (jc.conv, (3, 4, 16), (1, 16, 17)),
    "strided": (partial(jc.conv, stride=2, dilation=2), (1, 5, 4, 2), (2, 3, 2, 4)),
    "grouped": (partial(jc.conv, groups=2), (1, 4, 3, 4), (3, 2, 2, 4)),
    "transposed": (partial(jc.conv_transpose, stride=2), (1, 3, 2, 1), (3, 2, 4, 1)),
    "transposed in 3d": (jc.conv_transpose, (1, 2, 3, 2, 1), (2, 2, 2, 4, 1)),
}


@pytest.mark.parametrize("name", ONE_EXAMPLE)
def test_members_of_an_ensemble_over_devices(name):
    """Every member has filters of its own. Value, gradients, and a Hessian-vector product per example."""
    f, *shapes = ONE_EXAMPLE[name]
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.normal(size=(EXAMPLES, *shape))) for shape in shapes]

    def member(x, w):
        gradient, derived = (gradients(g, (x, w)) for g in (f, jc.derived(f)))
        return f(x, w), gradient(x, w), jax.grad(squares(gradient), 1)(x, w), derived(x, w)

    kinds = (AxisType.Auto, AxisType.Explicit) if name == "conv" else (AxisType.Explicit,)
    assert_same_on_meshes(member, (0, 0), args, kinds)


SPATIAL = {
    "conv": (lambda x, w: jc.conv(x, w), (3, 3, 4, 6)),
    "conv-strided": (lambda x, w: jc.conv(x, w, stride=(2, 1), dilation=(1, 2)), (3, 2, 4, 6)),
    "conv-valid": (lambda x, w: jc.conv(x, w, padding="VALID"), (4, 3, 4, 6)),
    "conv-grouped": (lambda x, w: jc.conv(x, w, groups=2), (3, 3, 2, 6)),
    "depthwise_conv": (lambda x, w: jc.depthwise_conv(x, w), (3, 3, 1, 8)),
    "conv_transpose": (lambda x, w: jc.conv_transpose(x, w, stride=2), (3, 3, 5, 4)),
    "conv_general_dilated": (
        lambda x, w: jc.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
        (3, 3, 4, 6),
    ),
    "weighted_pool": (lambda x, w: jc.weighted_pool(x, w, stride=1), (3, 2, 4)),
    "max_pool": (lambda x: jc.max_pool(x, 2), None),
    "max_pool-overlapping": (lambda x: jc.max_pool(x, 3, stride=2, padding=1), None),
    "max_pool-large": (lambda x: jc.max_pool(x, (13, 5), stride=1), None),
    "mean_pool": (lambda x: jc.mean_pool(x, 3, stride=1, padding="SAME"), None),
    "mean_pool-disjoint": (lambda x: jc.mean_pool(x, 4), None),
    "global_mean_pool": (jc.global_mean_pool, None),
    "global_max_pool": (jc.global_max_pool, None),
    "adaptive_mean_pool": (lambda x: jc.adaptive_mean_pool(x, (3, 2)), None),
}


@pytest.mark.parametrize("name", SPATIAL)
def test_batch_and_places_over_devices(name):
    f, w_shape = SPATIAL[name]
    rng = np.random.default_rng(0)
    args = [jnp.asarray(rng.normal(size=shape)) for shape in ((4, 16, 6, 4), w_shape) if shape]
    specs = [P("batch", "rows"), P()][: len(args)]
    dy = normal(results(f, *args))
    rows_divide = dy[0].ndim == 4 and dy[0].shape[1] % 4 == 0
    dy_specs = [P("batch", "rows") if rows_divide else P("batch")]
    expected = compiled(value_and_gradients(f))(dy, args)
    for kind in (AxisType.Auto, AxisType.Explicit):
        got, _ = run_on_mesh(mesh_of(kind, batch=2, rows=4), f, dy, dy_specs, args, specs)
        assert_close(got, expected)
    assert jax.typeof(got[1][0]).sharding.spec == P("batch", "rows", None, None)


IDLE = {  # what is split along one axis of the mesh, and repeated along the other
    "rows": (P(None, "a"), P()),
    "columns": (P(None, None, "b"), P()),
    "channels": (P("a"), P(None, None, "b")),
    "channels of filters": (P(), P(None, None, "b")),
    "filters": (P("a"), P(None, None, None, "b")),
    "rows, filters": (P(None, "a"), P(None, None, None, "b")),
}
WITH_FILTERS = {
    "conv": (jc.conv, (3, 3, 4, 8)),
    "strided": (partial(jc.conv, stride=2), (3, 3, 4, 8)),
    "grouped": (partial(jc.conv, groups=2), (3, 3, 2, 8)),
    "transposed": (partial(jc.conv_transpose, stride=2), (3, 3, 8, 4)),
}


@pytest.mark.parametrize("split", IDLE)
@pytest.mark.parametrize("name", WITH_FILTERS)
def test_an_idle_mesh_axis(name, split):
    """XLA multiplies some of its own convolutions by the number of repetitions there."""
    f, w_shape = WITH_FILTERS[name]
    rng = np.random.default_rng(0)
    args, specs = [jnp.asarray(rng.normal(size=shape)) for shape in ((4, 8, 8, 4), w_shape)], IDLE[split]
    g = value_and_gradients(lambda *args: jnp.sum(jnp.sin(f(*args))))
    expected = compiled(g)([jnp.ones(())], args)
    for kind in (AxisType.Auto, AxisType.Explicit) if name == "conv" else (AxisType.Auto,):
        mesh = mesh_of(kind, a=4, b=2)
        with jax.set_mesh(mesh):
            spread = [jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(args, specs, strict=True)]
            assert_close(compiled(g)([jnp.ones(())], spread), expected)


def test_shard_map_over_one_axis_of_a_mesh_whose_other_axis_splits_the_filters():
    gradient = jax.grad(lambda w, x: jnp.sum(jc.conv(x, w) ** 2))
    w, x = (jnp.asarray(np.random.default_rng(0).normal(size=shape)) for shape in ((3, 3, 3, 4), (8, 5, 4, 3)))
    mesh = mesh_of(AxisType.Explicit, batch=4, model=2)
    with jax.set_mesh(mesh):
        spread = jax.shard_map(gradient, in_specs=(P(), P("batch")), out_specs=P(), axis_names={"batch"})
        split = P(None, None, None, "model")
        dw = jax.jit(spread)(jax.device_put(w, split), jax.device_put(x, P("batch")))
    assert jax.typeof(dw).sharding.spec == split
    assert_close(dw, gradient(w, x))


@pytest.mark.optimized
def test_number_of_collectives():
    """One sum over the devices for all gradients that they share; two more for the statistics of batch norm,
    and two that run only where squares are beyond the dtype."""
    x = jnp.ones((DEVICES, 6, 5, 8))

    def norm(x, gamma, beta):
        return jc.batch_norm(x, gamma, beta)[0]

    expected = {
        "conv": (jc.conv, [(3, 3, 8, 4), (4,)], 1),
        "grouped": (partial(jc.conv, groups=2), [(3, 3, 4, 4)], 1),
        "depthwise": (jc.depthwise_conv, [(3, 3, 1, 16)], 1),
        "transposed": (jc.conv_transpose, [(3, 3, 4, 8)], 1),
        "max_pool": (partial(jc.max_pool, window=2), [], 0),
        "relu": (jc.relu, [], 0),
        "batch_norm": (norm, [(8,), (8,)], 5),
        "dense": (jc.dense, [(8, 3), (3,)], 1),
    }
    mesh, number = mesh_of(AxisType.Auto, batch=DEVICES), {}
    for name, (f, shapes, _) in expected.items():
        args = [x, *map(jnp.ones, shapes)]
        specs = [P("batch"), *(P() for _ in shapes)]
        _, found = run_on_mesh(mesh, f, normal(results(f, *args)), [P("batch")], args, specs)
        number[name] = dict(found)
    assert number == {name: {"all-reduce": n} if n else {} for name, (_, _, n) in expected.items()}


@pytest.mark.optimized
def test_split_rows_exchange_their_borders():
    """No device needs the rows of all others, for no gradient."""
    x, w = jnp.ones((16, 16, 6, 16)), jnp.ones((3, 3, 16, 32))
    rows = P(None, "rows")
    mesh = mesh_of(AxisType.Auto, rows=DEVICES)
    _, found = run_on_mesh(mesh, jc.conv, normal(results(jc.conv, x, w)), [rows], [x, w], [rows, P()])
    assert set(found) == {"all-reduce", "collective-permute"}


def test_batch_norm_in_shard_map_uses_the_whole_batch_where_told():
    rng = np.random.default_rng(0)
    x, gamma, beta = (jnp.asarray(rng.normal(size=shape)) for shape in ((DEVICES, 3, 2, 5), (5,), (5,)))
    dy = normal([x])[0]
    whole = value_and_gradients(lambda *args: jc.batch_norm(*args)[0])([dy], (x, gamma, beta))
    statistics = jc.batch_norm(x, gamma, beta)[1:]

    def on_device(dy, *args):
        f = partial(jc.batch_norm, axis_name="batch")
        return value_and_gradients(lambda *args: f(*args)[0])([dy], args), f(*args)[1:]

    specs = (P("batch"), P(), P())
    spread = jax.shard_map(
        on_device,
        mesh=mesh_of(AxisType.Auto, batch=DEVICES),
        in_specs=(P("batch"), *specs),
        out_specs=((([P("batch")], []), specs), (P(), P())),
    )
    assert_close(jax.jit(spread)(dy, x, gamma, beta), (whole, statistics))


def test_frozen_parameters_cost_nothing():
    """Convolutions of a gradient, as traced, which is what runs outside jit, and as compiled."""

    def loss(x, w, v):
        return jnp.sum(jc.conv(jc.relu(jc.conv(x, w)), v) ** 2)

    # With fewer images the traced program would hold a CPU's way as a branch of its own.
    args = jnp.ones((5, 5, 4, 5)), jnp.ones((3, 3, 5, 6)), jnp.ones((3, 3, 6, 7))

    def convolutions(argnums):
        gradient = jax.grad(loss, argnums)
        traced, compiled = str(jax.make_jaxpr(gradient)(*args)), jax.jit(gradient).lower(*args).compile().as_text()
        return traced.count("= conv_general_dilated["), len(re.findall(r" convolution\(", compiled))

    both_forward = 2
    assert convolutions(2) == (both_forward + 1,) * 2  # the filters of the last layer
    assert convolutions(1) == (both_forward + 2,) * 2  # those of the first: through the last to them
    assert convolutions((1, 2)) == (both_forward + 3,) * 2  # as one trains: no gradient of the images
    assert convolutions((0, 1, 2)) == (both_forward + 4,) * 2


def test_what_is_asked_for_differs_between_uses_of_one_traced_function():
    """JAX keeps what it traced of `f`, and with it what the first use asked for."""
    f, x, w = jax.jit(jc.conv), jnp.ones((1, 4, 2)), jnp.ones((3, 2, 3))
    _, of_x = jax.vjp(lambda x: f(x, w), x)
    _, of_w = jax.vjp(lambda w: f(x, w), w)
    y, of_both = jax.vjp(f, x, w)
    (dx,), (dw,), both = of_x(y), of_w(y), of_both(y)
    assert_close((dx, dw), both)
    assert_close(of_x(y)[0], dx)
