"""Right and wrong rules of attention, norms, losses, complex numbers, kernels and others."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rules.layers import PIXELS, halved_rule, halved_while_large
from rules.other_layers import (
    attention,
    attention_rule,
    beside,
    cross_entropy,
    cross_entropy_rule,
    layer_norm,
    layer_norm_rule,
    log_sum,
    log_sum_rule,
    norm_of_rows,
    norm_rule,
    product_and_sum,
    product_and_sum_rule,
    product_rule,
    rms_norm,
    rms_norm_rule,
    rounded,
    rows_of,
    rows_rule,
    sinc,
    sinc_rule,
    softplus_jvp,
    squared_size,
    sums_so_far,
    sums_to_come,
    swish_kernel,
    swish_rule,
)
from rules.rule import Rule, normal, with_jvp, with_rule

QKV = normal(4, 64, 32), normal(4, 64, 32), normal(4, 64, 32)
ROWS, SCALE, SHIFT = normal(200, 64), 1 + normal(64) / 4, normal(64)
HALF = normal(128, 128, dtype=jnp.bfloat16)
PLACES = jnp.asarray(np.arange(300) ** 2 % 97, jnp.int32)
COMPLEX = lax.complex(normal(100, 60), normal(100, 60))
WITH_ZEROS = ROWS.at[::50].set(0)
SHARES = jax.nn.softmax(ROWS)
MESH = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
SPLIT = jax.sharding.PartitionSpec("rows")


def on_each_device(f, out=SPLIT):
    return jax.shard_map(f, mesh=MESH, in_specs=SPLIT, out_specs=out)


WRONG_OTHERS = [
    Rule(
        "forward-mode rule off by a thousandth",
        softplus_jvp(1.001),
        (PIXELS,),
        ("gradient of x: WRONG", "everywhere, by the factor 1.001"),
    ),
    Rule(
        "forward-mode rule, one entry",
        with_jvp(jnp.sin, lambda args, dx: (jnp.cos(args[0]) * dx[0]).at[3, 4].multiply(1.001)),
        (PIXELS,),
        ("1 of 10000", "[3, 4]"),
    ),
    Rule(
        "a factor of 0.99 in bfloat16",
        with_rule(jnp.sin, lambda x, dy: ((0.99 * dy * jnp.cos(x)).astype(x.dtype),)),
        (HALF,),
        ("gradient of x: WRONG", "everywhere, by the factor 0.988"),
    ),
    Rule(
        "a factor of 1.3 beside an output in 8 bits",
        with_rule(*beside(jnp.float8_e4m3fn, 1.3)),
        (PIXELS,),
        ("gradient of x: WRONG", "everywhere, by the factor 1.3"),
    ),
    Rule(
        "a factor of 1.01 beside an output in bfloat16",
        with_rule(*beside(jnp.bfloat16, 1.01)),
        (PIXELS,),
        ("gradient of x: WRONG", "everywhere, by the factor 1.01"),
    ),
    Rule(
        "complex, without the conjugate",
        with_rule(squared_size, lambda z, dy: (2 * dy * z,)),
        (COMPLEX,),
        ("gradient of z (imaginary part): WRONG", "the opposite sign"),
    ),
    Rule(
        "raises",
        with_rule(jnp.dot, lambda a, b, dy: (jnp.dot(dy, b), jnp.dot(a, dy))),
        (normal(20, 30), normal(30, 40)),
        ("WRONG: the rule of", "raises TypeError"),
    ),
    Rule(
        "doubled in float32 only, of a loop",
        with_rule(halved_while_large, lambda x, dy: ((2 if x.dtype == jnp.float32 else 1) * halved_rule(x, dy)[0],)),
        (PIXELS,),
        ("gradient of x: WRONG", "by the factor 2"),
    ),
    Rule(
        "cotangent of one output ignored",
        with_rule(product_and_sum, lambda x, w, dy: product_and_sum_rule(x, w, (dy[0], jnp.zeros_like(dy[1])))),
        (PIXELS, normal(100, 100)),
        ("right for output 0, ignores the cotangent of output 1",),
    ),
    Rule(
        "rows of a table overwritten",
        with_rule(rows_of(PLACES), lambda table, dy: (jnp.zeros_like(table).at[PLACES].set(dy),)),
        (ROWS,),
        ("gradient of table: WRONG",),
    ),
    Rule(
        "sums of the wrong end",
        with_rule(sums_so_far, lambda x, dy: (jnp.cumsum(dy, 0),)),
        (ROWS,),
        ("gradient of x: WRONG", "everywhere"),
    ),
    Rule(
        "softmax of attention without its second term",
        with_rule(attention, lambda *args: attention_rule(*args, mean=0)),
        QKV,
        ("gradient of q: WRONG", "gradient of v: right"),
    ),
    Rule(
        "0.1 % in one entry of a kernel",
        with_rule(swish_kernel, lambda x, dy: (swish_rule(x, dy)[0].at[5, 6].multiply(1.001),)),
        (ROWS,),
        ("[5, 6]", "relative error 1.0e-03"),
    ),
    Rule(
        "not what it claims: the gradient passes where x is clipped",
        with_rule(rounded, lambda x, dy: (dy,)),
        (PIXELS,),
        ("gradient of x: WRONG", "zero expected"),
        {"claims": lambda x: jnp.clip(x, -1, 1)},
    ),
]

RIGHT_OTHERS = [
    Rule("attention", with_rule(attention, attention_rule), QKV),
    Rule("attention in bfloat16", with_rule(attention, attention_rule), tuple(a.astype(jnp.bfloat16) for a in QKV)),
    Rule("layer norm", with_rule(layer_norm, layer_norm_rule), (ROWS, SCALE, SHIFT)),
    Rule("RMS norm", with_rule(rms_norm, rms_norm_rule), (ROWS, SCALE)),
    Rule("logarithm of a sum of exponentials", with_rule(log_sum, log_sum_rule), (ROWS,)),
    Rule("cross-entropy", with_rule(cross_entropy, cross_entropy_rule), (ROWS, SHARES)),
    Rule("norm, of zeros as well", with_rule(norm_of_rows, norm_rule), (WITH_ZEROS,)),
    Rule("sin x / x, at 0 as well", with_rule(sinc, sinc_rule), (jnp.arange(-60, 61, dtype=jnp.float32) / 4,)),
    Rule("rows of a table", with_rule(rows_of(PLACES), rows_rule(PLACES)), (ROWS,)),
    Rule("cumulative sum", with_rule(sums_so_far, sums_to_come), (ROWS,)),
    Rule("complex product", with_rule(jnp.multiply, product_rule), (COMPLEX, COMPLEX[::-1])),
    Rule("squared size", with_rule(squared_size, lambda z, dy: (2 * dy * jnp.conj(z),)), (COMPLEX,)),
    Rule("forward-mode rule", softplus_jvp(), (PIXELS,)),
    Rule("forward-mode rule in bfloat16", softplus_jvp(), (HALF,)),
    Rule("a kernel of Pallas", with_rule(swish_kernel, swish_rule), (ROWS,)),
    Rule("straight-through", with_rule(rounded, lambda x, dy: (dy,)), (PIXELS,), options={"claims": lambda x: x}),
    Rule(
        "over devices",
        with_rule(
            on_each_device(lambda x: lax.psum(jnp.sum(jnp.square(x), 0), "rows"), out=jax.sharding.PartitionSpec()),
            lambda x, dy: (2 * x * dy,),
        ),
        (ROWS,),
    ),
]
