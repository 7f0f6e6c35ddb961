"""Rules of physics, of geometry and of activations."""

import jax
import jax.numpy as jnp

from foreign_rules.case import WRONG, call, case, module, normal, submodule, uniform

_JVP = {"kind": "custom_jvp"}


@case("e3nn-jax", "spherical_harmonics", **_JVP)
def _():
    e3nn = module("e3nn_jax")
    return call(lambda x: e3nn.spherical_harmonics("1o + 2e + 3o", x, True).array, normal(50, 3))


@case("brax", "math.safe_arccos", **_JVP)
def _():
    return call(module("brax.math").safe_arccos, uniform(-0.9, 0.9, 40, 50))


@case("brax", "math.safe_arcsin", **_JVP)
def _():
    return call(module("brax.math").safe_arcsin, uniform(-0.9, 0.9, 40, 50))


@case(
    "brax", "math.safe_arccos at 1", why="no verdict on the entries where the slope is infinite", planted=None, **_JVP
)
def _():
    arccos = module("brax.math").safe_arccos
    return call(arccos, jnp.asarray([-1.0, -0.5, 0.25, 1.0]), reference=jnp.arccos)


@case("jax-md", "rotation.safe_acos", **_JVP)
def _():
    return call(module("jax_md._nn.uma.common.rotation").safe_acos, uniform(-0.9, 0.9, 40, 50))


@case("jax-md", "rotation.safe_atan2", **_JVP)
def _():
    return call(module("jax_md._nn.uma.common.rotation").safe_atan2, normal(40, 50), normal(40, 50, seed=1))


@case("jax-md", "reaxff.safe_sqrt, zeros among the arguments", **_JVP)
def _():
    root = module("jax_md.mm_forcefields.reaxff.reaxff_helper").safe_sqrt
    return call(root, uniform(0.1, 2, 40, 50).at[3, :5].set(0))


@case("jax-md", "space.transform", truth=WRONG, why="positions get the gradient in real space on purpose", **_JVP)
def _():
    space = module("jax_md.space")

    def claimed(box, r):
        value = space.raw_transform(box, jax.lax.stop_gradient(r)) + r
        return value - jax.lax.stop_gradient(r)

    return call(space.transform, normal(3, 3), normal(50, 3)).under(claims=claimed)


def _unit(q, *rest):
    return (q / jnp.linalg.norm(q, axis=-1, keepdims=True), *rest)


@case("jax-md", "rigid_body quaternion_rotate", truth=WRONG, why="projects dq on the sphere")
def _():
    body = module("jax_md.rigid_body")
    q, v = _unit(normal(4), normal(3))

    def claimed(q, v):
        return body._quaternion_rotate_raw(_unit(q)[0], v)

    return call(body._quaternion_rotate, q, v).under(claims=claimed, domain=_unit)


@case("folx", "slogdet", planted=1, **_JVP)
def _():
    return call(lambda a: module("folx.slogdet").slogdet(a)[1], normal(5, 12, 12), rtol=1e-8)


@case("folx", "complex_abs, complex", **_JVP)
def _():
    return call(module("folx.wrapped_functions").complex_abs, normal(40, 50) + 1j * normal(40, 50, seed=1))


@case("kfac-jax", "stable_sqrt", **_JVP)
def _():
    return call(submodule("kfac_jax._src.utils.math").stable_sqrt, uniform(0.1, 2, 40, 50))


@case("brainpy", "activations.relu", **_JVP)
def _():
    return call(module("brainpy.math").relu, normal(40, 50))


@case("brainunit", "math.exprel", **_JVP)
def _():
    return call(module("saiunit.math").exprel, normal(40, 50))


@case("mujoco-mjx", "collision_sdf cylinder", **_JVP)
def _():
    return call(
        module("mujoco.mjx._src.collision_sdf")._cylinder,
        jnp.asarray([0.9, 0.5, 0.3]),
        jnp.asarray([0.7, 0.4]),
        argnums=0,
    )


@case("mujoco-mjx", "collision_sdf cylinder, its size", truth=WRONG, why="no gradient of the size", **_JVP)
def _():
    cylinder = module("mujoco.mjx._src.collision_sdf")._cylinder
    return call(cylinder, jnp.asarray([0.9, 0.5, 0.3]), jnp.asarray([0.7, 0.4])).under(zero=(1,))


@case("s2fft", "c_backend_spherical.ssht_inverse", x64=True)
def _():
    return call(
        lambda f: module("s2fft.transforms.c_backend_spherical").ssht_inverse(f, 6),
        (normal(6, 11) + 0j).astype(jnp.complex128),
        precision="float64",
    )
