"""Rules of quantised products and of low precision."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from foreign_rules.case import WRONG, call, case, module, modules, normal, straight_through

# A little more than the largest number is the bound: where a number is rounded at a tie, XLA's last bit would decide.
_CALIBRATION = "absmax,1.01"
_CALIBRATIONS = {"lhs_calibration_method": _CALIBRATION, "rhs_calibration_method": _CALIBRATION}
_NHWC = ("NHWC", "HWIO", "NHWC")


def _qwix_conv(qtype=None, stride=(1, 1), padding: Any = "SAME", groups=1, batch_groups=1, lhs=None, rhs=None):
    qwix = module("qwix._src.core.conv_general_qt")
    config = qwix.ConvGeneralQtConfig(lhs_qtype=qtype, rhs_qtype=qtype, **_CALIBRATIONS)
    numbers = lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), _NHWC)

    def conv(x, w):
        return qwix.conv_general_qt(x, w, config, stride, padding, lhs, rhs, numbers, groups, batch_groups)

    return conv


@case("qwix", "conv_general_qt, not quantised, stride (3, 2)")
def _():
    return call(_qwix_conv(stride=(3, 2)), normal(8, 16, 16, 8), normal(3, 3, 8, 16))


@case("qwix", "conv_general_qt, dilated on both sides, odd pads")
def _():
    conv = _qwix_conv(stride=(1, 2), padding=((2, 1), (0, 3)), lhs=(2, 1), rhs=(1, 2))
    return call(conv, normal(4, 11, 9, 8), normal(3, 2, 8, 6))


@case("qwix", "conv_general_qt, feature_group_count=8", truth=WRONG, why="the rule raises")
def _():
    return call(_qwix_conv(groups=8), normal(4, 8, 8, 8), normal(3, 3, 1, 16))


@case("qwix", "conv_general_qt, batch_group_count=2", truth=WRONG, why="the rule raises")
def _():
    return call(_qwix_conv(batch_groups=2), normal(4, 8, 8, 8), normal(3, 3, 8, 16))


def _dequantized(axes):
    """int8 by the largest number over the axes, and back."""

    def rounded(x):
        scale = jnp.max(jnp.abs(x), axes, keepdims=True) / 127.5
        return jnp.clip(jnp.round(x / scale), -127, 127) * scale

    return lambda x: straight_through(rounded(x), x)


def _qwix_dequantized(axis, calibration=_CALIBRATION):
    """int8 by a scale for each index of the axis, and back, as qwix does both."""

    def dequantized(x):
        array = module("qwix._src.core.qarray")
        how = array.HowToQuantize(qtype="int8", channelwise_axes=[axis], calibration_method=calibration)
        return straight_through(array.dequantize(array.quantize(x, how)).astype(x.dtype), x)

    return dequantized


@case("qwix", "conv_general_qt, int8", truth=WRONG, why="straight through")
def _():
    def dequantized(x, w):
        x, w = _qwix_dequantized(0)(x), _qwix_dequantized(3)(w)
        return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=_NHWC)

    x, w = normal(4, 8, 8, 8), normal(3, 3, 8, 16)
    return call(_qwix_conv("int8"), x, w).under(claims=dequantized, rtol=1e-4)


def _qwix_dot(qtype, numbers):
    qwix = module("qwix._src.core.dot_general_qt")
    config = qwix.DotGeneralQtConfig(lhs_qtype=qtype, rhs_qtype=qtype, **_CALIBRATIONS)
    return lambda x, w: qwix.dot_general_qt(x, w, numbers, config)


@case("qwix", "dot_general_qt, not quantised, batched, two contractions")
def _():
    numbers = (((2, 3), (3, 1)), ((0,), (0,)))
    return call(_qwix_dot(None, numbers), normal(4, 6, 7, 8), normal(4, 8, 5, 7))


@case("qwix", "dot_general_qt, int8", truth=WRONG, why="straight through")
def _():
    def dequantized(x, w):
        return _qwix_dequantized(0)(x) @ _qwix_dequantized(1)(w)

    x, w = normal(32, 64), normal(64, 48)
    return call(_qwix_dot("int8", (((1,), (0,)), ((), ()))), x, w).under(claims=dequantized, rtol=1e-4)


def _largest_is_positive(x, axes):
    """x with signs such that in each row the number that is the scale is positive: only a negative one is at a tie."""
    return jnp.where(jnp.max(x, axes, keepdims=True) < -jnp.min(x, axes, keepdims=True), -x, x)


@case("qwix", "ragged_dot_qt, int8", truth=WRONG, why="straight through")
def _():
    qwix = module("qwix._src.core.ragged_dot_qt")
    config, sizes = qwix.RaggedDotQtConfig(lhs_qtype="int8", rhs_qtype="int8"), jnp.asarray([10, 0, 15, 7], jnp.int32)

    def dequantized(x, w, sizes):
        return lax.ragged_dot(_qwix_dequantized(0, "absmax")(x), _qwix_dequantized(2, "absmax")(w), sizes)

    x, w = _largest_is_positive(normal(32, 24), 1), _largest_is_positive(normal(4, 24, 20), (0, 1))
    return call(lambda x, w, n: qwix.ragged_dot_qt(x, w, n, config), x, w, sizes).under(claims=dequantized, rtol=1e-4)


def _scaled(x, scale):
    """x rounded to fp8 of the scale, and back."""
    low = jnp.float8_e4m3fn
    largest = float(jnp.finfo(low).max)
    return jnp.clip(x / scale, -largest, largest).astype(low).astype(x.dtype) * scale


@case("flax", "fp8_ops.in_qdq", truth=WRONG, why="straight through; the new scale and history go out as gradients")
def _():
    fp8 = module("flax.linen.fp8_ops")

    def rounded(x, scale, history):
        return fp8.in_qdq(jnp.float32, jnp.float8_e4m3fn, x, scale, history)

    def intended(x, scale, history):
        return straight_through(rounded(x, scale, history), x)

    x, scale, history = normal(32, 64), jnp.ones(1), jnp.full(8, 4.0)
    return call(rounded, x, scale, history).under(claims=intended, argnums=0)


@case("flax", "fp8_ops.out_qdq", truth=WRONG, why="rounds dy to fp8 on purpose")
def _():
    fp8 = module("flax.linen.fp8_ops")

    def passed(x, scale, history):
        return fp8.out_qdq(jnp.float32, jnp.float8_e5m2, x, scale, history)

    def exact(dy):
        """The dy that fp8 holds exactly: then rounding changes nothing."""
        return jnp.clip(dy, -4, 4).astype(jnp.float8_e5m2).astype(dy.dtype)

    x, scale, history = normal(32, 64), jnp.ones(1), jnp.zeros(8)
    return call(passed, x, scale, history).under(argnums=0, dy=exact)


@case("aqtp", "dot_general, not quantised")
def _():
    aqt = modules(config="aqt.jax.v2.config", general="aqt.jax.v2.aqt_dot_general")
    product = aqt.config.dot_general_make(None, None)
    return call(lambda x, w: product(x, w, (((1,), (0,)), ((), ()))), normal(32, 64), normal(64, 48))


@case("aqtp", "dot_general, int8 forward", truth=WRONG, why="straight through")
def _():
    config = module("aqt.jax.v2.config")
    product = config.dot_general_make(8, 8)

    def dequantized(x, w):
        return _dequantized(1)(x) @ _dequantized(0)(w)

    x, w = normal(32, 64), normal(64, 48)
    return call(lambda x, w: product(x, w, (((1,), (0,)), ((), ()))), x, w).under(claims=dequantized, rtol=1e-5)


@case("aqtp", "fp_cast.downcast_sat_ftz", kind="custom_jvp", truth=WRONG, why="straight through")
def _():
    cast = module("aqt.jax_legacy.jax.fp_cast")

    def rounded(x):
        return cast.downcast_sat_ftz(x, -11, 4, 3)

    return call(rounded, normal(40, 50)).under(claims=lambda x: straight_through(rounded(x), x))
