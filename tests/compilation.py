"""How the tests compile where it is the result that counts, not the speed."""

import jax


def known(options):
    """`options` where the installed XLA knows them, else None."""
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except jax.errors.JaxRuntimeError:
        return None
    return options


# Nearly all of the time goes into compiling, four times as much with the optimizations that these options leave out. In
# one piece it takes less of it: the tests themselves use all cores.
QUICK_TO_COMPILE = known(
    {
        "xla_backend_optimization_level": 0,
        "xla_cpu_parallel_codegen_split_count": 1,
        "xla_cpu_use_fusion_emitters": False,
    }
)


def quick(f):
    """f compiled as a whole, where without `jit` each of its operations would be compiled by itself."""
    return jax.jit(f, compiler_options=QUICK_TO_COMPILE)


def quick_vjp(f, *args):
    """The value of f, and the function that takes dy to its gradients, each compiled as a whole."""
    return quick(f)(*args), quick(lambda dy: jax.vjp(f, *args)[1](dy))
