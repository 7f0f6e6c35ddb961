"""Rules of special functions and of distributions; most are `custom_jvp`."""

import jax
import jax.numpy as jnp

from foreign_rules.case import WRONG, call, case, module, normal, straight_through, uniform

_JVP = {"kind": "custom_jvp"}


def _tfp(name, *args, **options):
    math = module("tensorflow_probability.substrates.jax").math
    return call(getattr(math, name), *args, **options)


@case("tfp-nightly", "math.log_cosh", **_JVP)
def _():
    return _tfp("log_cosh", 3 * normal(40, 50))


@case("tfp-nightly", "math.dawsn", **_JVP)
def _():
    return _tfp("dawsn", 2 * normal(40, 50), rtol=1e-6)


@case("tfp-nightly", "math.erfcx", **_JVP)
def _():
    return _tfp("erfcx", uniform(-2, 4, 40, 50), rtol=1e-6)


@case("tfp-nightly", "math.betainc", **_JVP)
def _():
    args = uniform(1, 4, 100, seed=1), uniform(1, 4, 100, seed=2), uniform(0.1, 0.9, 100)
    return _tfp("betainc", *args, rtol=1e-4)


@case("tfp-nightly", "math.bessel_ive, the order fixed", **_JVP)
def _():
    return _tfp("bessel_ive", uniform(0.5, 3, 200, seed=1), uniform(0.5, 5, 200), argnums=1, rtol=1e-4)


@case("tfp-nightly", "math.bessel_ive", truth=WRONG, why="no gradient of the order", **_JVP)
def _():
    return _tfp("bessel_ive", uniform(0.5, 3, 200, seed=1), uniform(0.5, 5, 200), rtol=1e-4).under(zero=(0,))


@case("tfp-nightly", "math.bessel_kve, the order fixed", **_JVP)
def _():
    return _tfp("bessel_kve", uniform(0.5, 3, 200, seed=1), uniform(0.5, 5, 200), argnums=1, rtol=1e-4)


@case("tfp-nightly", "math.bessel_iv_ratio, the order fixed", **_JVP)
def _():
    return _tfp("bessel_iv_ratio", uniform(1.5, 4, 200, seed=1), uniform(0.5, 5, 200), argnums=1, rtol=1e-4)


def _spd(n):
    a = normal(n, 2 * n)
    return a @ a.T / n + jnp.eye(n)


def _symmetric(a):
    return (a + jnp.swapaxes(a, -1, -2)) / 2


def _of_symmetric(a, *rest):
    return (_symmetric(a), *rest)


@case("tfp-nightly", "math.hpsd_logdet", **_JVP)
def _():
    return _tfp("hpsd_logdet", _spd(20), reference=lambda a: jnp.linalg.slogdet(a)[1], domain=_symmetric)


@case("tfp-nightly", "math.hpsd_solve", truth=WRONG, why="the gradient of symmetric matrices is symmetric", **_JVP)
def _():
    reference = jnp.linalg.solve

    def claimed(a, b):
        return jnp.linalg.solve(_symmetric(a), b)

    return _tfp("hpsd_solve", _spd(20), normal(20, 5), reference=reference).under(
        reference=None, claims=claimed, domain=_of_symmetric
    )


@case("tfp-nightly", "StudentT.cdf (stdtr)", **_JVP)
def _():
    tfd = module("tensorflow_probability.substrates.jax").distributions
    return call(lambda df, x: tfd.StudentT(df, 0.0, 1.0).cdf(x), uniform(2, 8, 100), normal(100), rtol=1e-4)


@case("tfp-nightly", "VonMises.cdf")
def _():
    tfd = module("tensorflow_probability.substrates.jax").distributions
    args = uniform(-3, 3, 100), uniform(0.5, 5, 100, seed=1)
    return call(lambda x, k: tfd.von_mises.von_mises_cdf(x, k), *args, rtol=1e-4)


def _implicit(sample, cdf, density):
    """The sample, with the gradient that keeps its cumulative probability as it is."""

    def claimed(parameter):
        z = jax.lax.stop_gradient(sample(parameter))
        return straight_through(z, -cdf(z, parameter) / jax.lax.stop_gradient(density(z, parameter)))

    return claimed


@case("tfp-nightly", "Gamma.sample (random_gamma)", truth=WRONG, why="implicit reparameterisation", **_JVP)
def _():
    tfd = module("tensorflow_probability.substrates.jax").distributions

    def sample(a):
        return tfd.Gamma(a, 1.0).sample(seed=jax.random.PRNGKey(0))

    def density(z, a):
        return jnp.exp((a - 1) * jnp.log(z) - z - jax.lax.lgamma(a))

    claimed = _implicit(sample, lambda z, a: jax.lax.igamma(a, z), density)
    return call(sample, uniform(1, 4, 100)).under(claims=claimed, rtol=1e-4)


@case("numpyro", "distributions.util.log1mexp", **_JVP)
def _():
    return call(module("numpyro.distributions.util").log1mexp, uniform(-3, -0.01, 40, 50))


def _power_law(method, **options):
    law = module("numpyro.distributions").DoublyTruncatedPowerLaw

    def f(x, alpha, low, high):
        return getattr(law(alpha, low, high, validate_args=False), method)(x)

    x = uniform(0.1, 0.9, 100) if method == "icdf" else uniform(1.2, 2.8, 100)
    return call(f, x, uniform(0.5, 2, 100, seed=1), uniform(0.5, 1, 100, seed=2), uniform(3, 4, 100), **options)


for _name in ("cdf", "icdf"):

    @case("numpyro", f"DoublyTruncatedPowerLaw.{_name}", **_JVP)
    def _(name=_name):
        return _power_law(name)


@case("numpyro", "DoublyTruncatedPowerLaw.log_prob, of x and alpha", **_JVP)
def _():
    return _power_law("log_prob", argnums=(0, 1))


@case(
    "numpyro",
    "DoublyTruncatedPowerLaw.log_prob",
    truth=WRONG,
    why="bounds: the density's gradient, not its log's",
    **_JVP,
)
def _():
    return _power_law("log_prob")


@case("distrax", "multiply_no_nan", **_JVP)
def _():
    return call(module("distrax._src.utils.math").multiply_no_nan, normal(40, 50), normal(40, 50, seed=1))


@case("distrax", "multiply_no_nan at infinity times 0", planted=None, **_JVP)
def _():
    x, y = normal(50).at[3].set(jnp.inf), normal(50, seed=1).at[3].set(0)
    return call(module("distrax._src.utils.math").multiply_no_nan, x, y, argnums=0)


@case("distrax", "power_no_nan", **_JVP)
def _():
    return call(module("distrax._src.utils.math").power_no_nan, uniform(0.5, 2, 40, 50), normal(40, 50))


@case("distrax", "VonMises.cdf", **_JVP)
def _():
    cdf = module("distrax._src.distributions.von_mises")._von_mises_cdf
    return call(lambda x, k: cdf(x, k, jnp.float32), uniform(-3, 3, 100), uniform(0.5, 5, 100, seed=1), rtol=1e-3)


@case("distrax", "VonMises.sample, the key made inside", truth=WRONG, why="implicit reparameterisation", **_JVP)
def _():
    distrax = module("distrax")
    cdf = module("distrax._src.distributions.von_mises")._von_mises_cdf

    def sample(k):
        return distrax.VonMises(jnp.zeros_like(k), k).sample(seed=jax.random.PRNGKey(0))

    def density(z, k):
        return jnp.exp(k * jnp.cos(z)) / (2 * jnp.pi * jax.scipy.special.i0(k))

    claimed = _implicit(sample, lambda z, k: cdf(z, k, z.dtype), density)
    return call(sample, uniform(0.5, 5, 100)).under(claims=claimed, rtol=1e-3)


for _name in ("relu", "relu6", "log1mexp"):

    @case("jax", f"nn.{_name}", **_JVP)
    def _(name=_name):
        return call(getattr(jax.nn, name), uniform(0.1, 3, 40, 50) if name == "log1mexp" else normal(40, 50))


def _special(name, *args, **options):
    return call(getattr(module("jax.scipy.special"), name), *args, **options)


for _name in ("logit", "log_ndtr", "expi"):

    @case("jax", f"scipy.special.{_name}", **_JVP)
    def _(name=_name):
        return _special(name, uniform(0.1, 0.9, 40, 50))


for _name in ("xlogy", "xlog1py", "poch"):

    @case("jax", f"scipy.special.{_name}", **_JVP)
    def _(name=_name):
        return _special(name, uniform(0.1, 0.9, 40, 50), uniform(0.5, 2, 40, 50))


for _name in ("fresnel", "sici"):

    @case("jax", f"scipy.special.{_name}", **_JVP)
    def _(name=_name):
        return _special(name, uniform(0.1, 3, 40, 50))


@case("jax", "scipy.special.hyp1f1", **_JVP)
def _():
    return _special("hyp1f1", *(uniform(0.5, 2, 100, seed=i) for i in range(3)))


@case("jax", "scipy.special.xlogy at (0, 0)", planted=None, **_JVP)
def _():
    return call(module("jax.scipy.special").xlogy, jnp.zeros(3), jnp.asarray([0.0, 1.0, 2.0]), argnums=0)
