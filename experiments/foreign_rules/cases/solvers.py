"""Rules of solvers, of loops and of differential equations."""

import jax
import jax.numpy as jnp

from foreign_rules.case import WRONG, call, case, module, modules, normal, uniform


def _ridge_optimality(w, penalty, x, y):
    return x.T @ (x @ w - y) + penalty * w


def _ridge(penalty, x, y):
    return jnp.linalg.solve(x.T @ x + penalty * jnp.eye(x.shape[1], dtype=x.dtype), x.T @ y)


@case("jaxopt", "implicit_diff.custom_root, ridge", x64=True)
def _():
    implicit = module("jaxopt.implicit_diff")
    root = implicit.custom_root(_ridge_optimality)(lambda start, penalty, x, y: _ridge(penalty, x, y))
    x, y = normal(100, 6, dtype=jnp.float64), normal(100, dtype=jnp.float64)
    return call(lambda penalty, x, y: root(None, penalty, x, y), jnp.float64(2.0), x, y)


@case("jaxopt", "LBFGS, implicit", x64=True)
def _():
    jaxopt = module("jaxopt")

    def objective(w, penalty, x, y):
        return 0.5 * jnp.sum(jnp.square(x @ w - y)) + 0.5 * penalty * jnp.sum(jnp.square(w))

    def solved(penalty, x, y):
        solver = jaxopt.LBFGS(objective, tol=1e-10, maxiter=500)
        return solver.run(jnp.zeros(x.shape[1], x.dtype), penalty, x, y).params

    x, y = normal(100, 6, dtype=jnp.float64), normal(100, dtype=jnp.float64)
    return call(solved, jnp.float64(2.0), x, y, reference=_ridge, rtol=1e-6)


@case("jaxopt", "projection.projection_simplex", kind="custom_jvp")
def _():
    return call(module("jaxopt.projection").projection_simplex, normal(200))


def _positive_definite(n, dtype=jnp.float64):
    a = normal(n, 2 * n, dtype=dtype)
    return a @ a.T / n + jnp.eye(n, dtype=dtype)


def _symmetric(a):
    return (a + a.T) / 2


def _root(a):
    values, vectors = jnp.linalg.eigh(_symmetric(a))
    return (vectors * jnp.sqrt(values)) @ vectors.T


for _which in ("sqrtm_only", "inv_sqrtm_only"):

    @case("ott-jax", f"matrix_square_root.{_which}", x64=True)
    def _(which=_which):
        function = getattr(module("ott.math.matrix_square_root"), which)

        def solved(a):
            return function(_symmetric(a), threshold=1e-12, regularization=1e-9)

        return call(solved, _positive_definite(8), domain=_symmetric, rtol=1e-6)


@case("ott-jax", "matrix_square_root.sqrtm, against eigenvectors", x64=True)
def _():
    function = module("ott.math.matrix_square_root").sqrtm

    def solved(a):
        return function(_symmetric(a), threshold=1e-12, regularization=1e-9)[:2]

    def plain(a):
        root = _root(a)
        return root, jnp.linalg.inv(root)

    return call(solved, _positive_definite(6), reference=plain, domain=_symmetric, rtol=1e-6)


@case("ott-jax", "softmin", truth=WRONG, why="no gradient of gamma")
def _():
    softmin = module("ott.math.utils").softmin
    return call(lambda x, gamma: softmin(x, gamma, 1), normal(30, 40), jnp.float32(0.5)).under(zero=(1,))


@case("ott-jax", "math.utils.norm, of rows", kind="custom_jvp")
def _():
    norm = module("ott.math.utils").norm
    return call(lambda x: norm(x, 2, -1), normal(50, 40))


@case("ott-jax", "math.utils.logsumexp", kind="custom_jvp")
def _():
    return call(lambda x: module("ott.math.utils").logsumexp(x, -1), normal(30, 40).at[3].set(-jnp.inf))


@case("ott-jax", "math.utils.lambertw", kind="custom_jvp")
def _():
    return call(module("ott.math.utils").lambertw, uniform(0.1, 5, 400), rtol=1e-6)


@case("ott-jax", "costs.RegTICost.h_legendre")
def _():
    ott = modules(costs="ott.geometry.costs", regularizers="ott.geometry.regularizers")
    cost = ott.costs.RegTICost(ott.regularizers.L1())
    return call(jax.vmap(cost.h_legendre), 3 * normal(20, 16))


def _points(n=12, m=15):
    return normal(n, 2, dtype=jnp.float64), normal(m, 2, seed=1, dtype=jnp.float64)


def _centred(dy):
    return dy - jnp.mean(dy)


@case("ott-jax", "sinkhorn potentials, implicit", x64=True, truth=WRONG, why="defined up to a constant")
def _():
    ott = modules(pointcloud="ott.geometry.pointcloud", linear="ott.solvers.linear")

    def potentials(x, y):
        return ott.linear.solve(ott.pointcloud.PointCloud(x, y, epsilon=0.5), threshold=1e-12, lse_mode=True).f

    return call(potentials, *_points(), rtol=1e-5).under(dy=_centred)


@case("ott-jax", "sinkhorn cost, implicit", x64=True)
def _():
    ott = modules(pointcloud="ott.geometry.pointcloud", linear="ott.solvers.linear")

    def cost(x, y):
        return ott.linear.solve(ott.pointcloud.PointCloud(x, y, epsilon=0.5), threshold=1e-12).reg_ot_cost

    return call(cost, *_points(), rtol=1e-5)


@case("ott-jax", "semidiscrete loss", x64=True)
def _():
    ott = modules(
        semidiscrete="ott.solvers.linear.semidiscrete",
        problem="ott.problems.linear.linear_problem",
        pointcloud="ott.geometry.pointcloud",
    )
    problem = ott.problem.LinearProblem(ott.pointcloud.PointCloud(*_points(30, 20), epsilon=0.3))
    return call(lambda g: ott.semidiscrete._semidiscrete_loss(g, problem), normal(20, dtype=jnp.float64))


@case("jax", "experimental.ode.odeint", x64=True, truth=WRONG, why="as good as the solver's tolerance")
def _():
    odeint = module("jax.experimental.ode").odeint

    def pendulum(y, t, a):
        return jnp.stack([y[1], -a * jnp.sin(y[0])])

    def solved(y, a):
        return odeint(pendulum, y, jnp.linspace(0.0, 2.0, 5), a, rtol=1e-8, atol=1e-8)

    return call(solved, jnp.asarray([1.0, 0.5]), jnp.float64(1.5)).under(rtol=1e-4)


@case("equinox", "internal.while_loop, checkpointed")
def _():
    equinox = module("equinox.internal")

    def looped(x):
        def body(carry):
            i, y = carry
            return i + 1, jnp.sin(y) * 1.1 + 0.1 * y

        return equinox.while_loop(lambda c: c[0] < 7, body, (0, x), max_steps=16, kind="checkpointed", checkpoints=3)[1]

    def unrolled(x):
        for _ in range(7):
            x = jnp.sin(x) * 1.1 + 0.1 * x
        return x

    return call(looped, normal(32, 64), reference=unrolled)


@case("equinox", "internal.scan, checkpointed, without a reference")
def _():
    equinox = module("equinox.internal")

    def scanned(x, w):
        def step(h, x):
            h = jnp.tanh(h @ w + x)
            return h, h

        return equinox.scan(step, jnp.zeros((x.shape[1], w.shape[0]), x.dtype), x, kind="checkpointed", checkpoints=3)

    return call(scanned, normal(6, 4, 16), normal(16, 16) / 4)


def _pendulum(t, y, a):
    return jnp.stack([y[1], -a * jnp.sin(y[0])])


def _diffrax(adjoint):
    diffrax = module("diffrax")

    def solved(y, a):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(_pendulum), diffrax.Tsit5(), 0.0, 2.0, 0.1, y, a,
            adjoint=adjoint(diffrax), saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, 2.0, 5)),
        ).ys  # fmt: skip

    return solved


@case("diffrax", "RecursiveCheckpointAdjoint", x64=True)
def _():
    args = jnp.asarray([1.0, 0.5]), jnp.float64(1.5)
    return call(_diffrax(lambda diffrax: diffrax.RecursiveCheckpointAdjoint(checkpoints=4)), *args)


@case("diffrax", "BacksolveAdjoint", x64=True, truth=WRONG, why="the adjoint is solved anew: approximate on purpose")
def _():
    args = jnp.asarray([1.0, 0.5]), jnp.float64(1.5)
    reference = _diffrax(lambda diffrax: diffrax.DirectAdjoint())
    return call(_diffrax(lambda diffrax: diffrax.BacksolveAdjoint()), *args, reference=reference).under(rtol=1e-5)


@case("netket", "jax.expect", x64=True, truth=WRONG, why="the gradient of an expectation, by the score function")
def _():
    expect = module("netket.jax").expect

    def log_pdf(w, x):
        return -jnp.sum(jnp.square(x - w), -1)

    def value(w, x):
        return jnp.sin(jnp.sum(w * x, -1))

    def mean(w, x):
        return expect(log_pdf, value, w, x)[0]

    def scored(w, x):
        """Whose gradient is that of the mean over points that follow the density of w."""
        values = value(w, x)
        about = jax.lax.stop_gradient(values - jnp.mean(values))
        score = jnp.mean(about * log_pdf(w, x))
        return jnp.mean(values) + score - jax.lax.stop_gradient(score)

    return call(mean, normal(8, dtype=jnp.float64), normal(64, 8, dtype=jnp.float64)).under(claims=scored)


@case("lineax", "norm.two_norm", kind="custom_jvp")
def _():
    return call(module("lineax._norm").two_norm, normal(1000))


@case("lineax", "two_norm at 0", kind="custom_jvp", planted=None, truth="not checked", why="no derivative there")
def _():
    return call(module("lineax._norm").two_norm, jnp.zeros(1000))
