"""How the tests compile where it is the result that counts, not the speed."""

import jax


def known(options):
    """`options` where the installed XLA knows them, else None."""
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except jax.errors.JaxRuntimeError:
        return None
    return options


# Nearly all of the time goes into compiling, four times as much with the optimizations that these options leave out.
QUICK_TO_COMPILE = known({"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False})
