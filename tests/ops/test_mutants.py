"""Formulas broken on purpose, inside the rules: the checker has to find each break, in a case that uses it.

What can be done to any rule from outside, `check.mutants` does to all of them (test_every_op.py).
"""

import functools
import importlib
import math
import pkgutil
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from table import CASES

import jaxcnn.ops
from jaxcnn import check
from jaxcnn.contract.geometry import Window
from jaxcnn.contract.rules import defvjp
from jaxcnn.kernels import means, winners, winning_places
from jaxcnn.kernels.correlation import on_cpu
from jaxcnn.ops import (
    batch_normalization,
    convolution,
    convolution_gradients,
    dense,
    dropout,
    filter_normalization,
    general_convolution,
    local_response,
    lp_pooling,
    max_pooling,
    mixed_pooling,
    normalization,
    padding,
    pixel_shuffle,
    resampling,
    resize,
    stochastic_pooling,
    transposed_convolution,
    weighted_pooling,
)
from jaxcnn.ops.losses import binary_cross_entropy, cross_entropy, dice, hinge, regression
from jaxcnn.ops.losses.reduction import masked

RULES = {
    value.__name__: value
    for module in pkgutil.walk_packages(jaxcnn.ops.__path__, "jaxcnn.ops.")
    for value in vars(importlib.import_module(module.name)).values()
    if isinstance(value, jax.custom_vjp)
}


def rules_of(case):
    """The names of the rules as a case calls them; a custom VJP is called as the function that it belongs to."""
    return re.findall(r"name=(_\w+_plain)", str(jax.make_jaxpr(case.f)(*case.args())))


def case_of(name):
    return next(case for case in CASES if str(case) == name)


def found_wrong(case):
    """The arguments whose gradient the checker finds wrong, or another one than JAX's at a kink."""
    comparisons = check.gradients(case.f, *case.args()).comparisons
    return {c.name for c in comparisons if c.name.startswith("gradient") and (c.problem or c.kink)}


def test_every_rule_is_in_the_table():
    assert set().union(*map(rules_of, CASES)) == set(RULES)


def no_flip(w, groups):
    *k, c, o = w.shape
    return jnp.swapaxes(w.reshape(*k, c, groups, o // groups), -3, -1).reshape(*k, o // groups, groups * c)


def no_channel_swap(w, groups):
    *k, c, o = w.shape
    flipped = lax.rev(w, tuple(range(len(k))))
    return flipped.reshape(*k, c, groups, o // groups).swapaxes(-3, -2).reshape(*k, o // groups, groups * c)


def groups_mixed_up(w, groups):
    *k, c, o = w.shape
    flipped = lax.rev(w, tuple(range(len(k))))
    return jnp.swapaxes(flipped.reshape(*k, c, o // groups, groups), -3, -2).reshape(*k, o // groups, groups * c)


def shifted(right):
    return property(lambda window: [(low + 1, high - 1) for low, high in right.fget(window)])


def remainder_at_the_front(right):
    return property(lambda window: [(high, low) for low, high in right.fget(window)])


def mean_for_sum(right):
    """The backward pass that divides by the number of entries as well."""
    return lambda *args: jax.tree.map(lambda g: g / g.size, right(*args))


def last_image_dropped(right):
    return lambda x, dz, *options: right(x[:-1], dz[:-1], *options)


def first_filter_dropped(right):
    return lambda x, w, *options: right(x, w.at[..., 0].set(0), *options)


def last_entry_dropped(right):
    return lambda *args, **options: right(*args, **options).at[-1].set(0)


def spread_evenly(dy, x, winner, window):
    return means.add_shares(dy, window, window.padding)


def no_division_by_y(p, window, residuals, dy):
    """x^(p-1) alone."""
    x, y = residuals
    return lp_pooling._lp_pool_bwd(p, window, (x, jnp.ones_like(y)), dy)


def shares_swapped(window, residuals, dy):
    share, *others = residuals
    _, dshare = mixed_pooling._mixed_pool_bwd(window, residuals, dy)
    return mixed_pooling._mixed_pool_bwd(window, (1 - share, *others), dy)[0], dshare


def maximum_instead_of_y(window, residuals, dy):
    *others, rest = residuals
    return mixed_pooling._softmax_pool_bwd(window, (*others, 0 * rest), dy)


def constant_probabilities(window, residuals, dy):
    """The derivative of Σ p x where p is held constant: Σ p dy."""
    x, y, mean = residuals
    return stochastic_pooling._stochastic_pool_inference_bwd(window, (x / 2, 0 * y, mean), dy)


def winner_one_further(right):
    return lambda dy, winner, where: right(dy, jax.tree.map(lambda number: number + 1, winner), where)


def last_of_the_ties(right):
    """Runs the search on the image turned around, where the last of the ties comes first."""

    def mutant(x, window):
        y, winner = right(jnp.flip(x, (1, 2)), window)
        return jnp.flip(y, (1, 2)), winners.Entry(window.volume - 1 - jnp.flip(winner.number, (1, 2)))

    return mutant


def no_mean_term(right):
    return lambda dxhat, xhat, r, mean_dxhat, mean_dxhat_xhat: right(dxhat, xhat, r, 0 * mean_dxhat, mean_dxhat_xhat)


def no_variance_term(right):
    return lambda dxhat, xhat, r, mean_dxhat, mean_dxhat_xhat: right(dxhat, xhat, r, mean_dxhat, 0 * mean_dxhat_xhat)


def no_r(right):
    return lambda dxhat, xhat, r, *terms: right(dxhat, xhat, jnp.ones_like(r), *terms)


def the_same_neighbours(right):
    """The window of the forward pass in the backward pass."""
    return lambda a, before, after: right(a, max(before, after), min(before, after))


def constant_sigma(iterations, residuals, cotangents):
    w, v, u = residuals
    sigma = filter_normalization._sigma(filter_normalization._matrix(w, v.dtype)[0], v, u)
    return cotangents[0] / sigma, None


def transposed_directions(right):
    def mutant(iterations, residuals, cotangents):
        w, v, u = residuals
        return right(iterations, (w, v, u[::-1]), cotangents)

    return mutant


def mask_drawn_anew(draw, options, key, dy):
    return None, dropout._dropout_plain(jax.random.fold_in(key, 1), dy, draw, options)


def mask_without_scale(draw, options, key, dy):
    return None, jnp.where(draw(key, dy.dtype, *options)[0], dy, 0.0)


def factors_first(factor, _, dy):
    """The channels in the order (j, c) rather than (c, j)."""
    dx = pixel_shuffle._pixel_unshuffle_plain(dy, factor)
    split = dx.reshape(*dx.shape[:-1], dy.shape[-1], -1)
    return (jnp.swapaxes(split, -1, -2).reshape(dx.shape),)


def channels_after_factors(factor, _, dy):
    split = dy.reshape(*dy.shape[:-1], -1, math.prod(factor))
    return (pixel_shuffle._pixel_shuffle_plain(jnp.swapaxes(split, -1, -2).reshape(dy.shape), factor),)


def dy_resized(right):
    """Resizes dy to the shape of x as if it were an image."""
    return lambda before, after, method, _, dy: (resize._resize_plain(dy, after, before, method),)


def not_reversed(strip, axis, mode):
    return strip


def first_of_the_strip(strip, axis, mode):
    return lax.slice_in_dim(strip, 0, 1, axis=axis)


def columns_first(image_shape, _, dy):
    return (dy.reshape(dy.shape[0], *image_shape[::-1]).transpose(0, *range(len(image_shape), 0, -1)),)


def no_mean(dloss, shape, reduction, where=None, weights=None):
    return masked(jnp.broadcast_to(dloss, shape), where)


def no_mask(right):
    return lambda dloss, shape, reduction, where=None, weights=None: right(dloss, shape, reduction)


def mean_of_the_number(right):
    return lambda dloss, shape, reduction, where=None, weights=None: right(dloss, shape, reduction, where)


def no_smoothing(right):
    return lambda smoothing, *args: right(0.0, *args)


def not_focused(right):
    return lambda gamma, *args: right(0.0, *args)


def not_balanced(right):
    return lambda gamma, alpha, *args: right(gamma, None, *args)


def no_class_weights(right):
    return lambda *args: right(*args[:-2], (*args[-2][:2], None, args[-2][3]), args[-1])


def no_sum_of_targets(smoothing, reduction, residuals, dloss):
    """p - u, which is right where u sums to 1."""
    logits, labels, class_weights, where = residuals
    p = jnp.exp(cross_entropy._log_probabilities(logits, where))
    u = cross_entropy._targets(labels, class_weights, where, p, smoothing)
    shares = cross_entropy._shares(labels, class_weights, where, p)
    return (p - u) * cross_entropy.spread(dloss, p.shape[:-1], reduction, where, shares)[..., None], None, None, None


def no_one_in_dq(right):
    def mutant(reduction, residuals, dloss):
        dlog_p, dq, _ = right(reduction, residuals, dloss)
        return dlog_p, dq + dlog_p / residuals[1], None

    return mutant


def not_clipped(right):
    return right._replace(slope=lambda d, delta: d)


def label_not_pulled(margin, reduction, residuals, dloss):
    within, labels, where = residuals
    dlosses = hinge.spread(dloss, labels.shape, reduction, where)
    return within.astype(dloss.dtype) * dlosses[..., None] / within.shape[-1], None, None


def no_pixel_mask(right):
    return lambda *args: right(*args[:-2], (args[-2][0], None, *args[-2][2:]), args[-1])


def no_size_of_the_regions(right):
    def mutant(classes, smooth, reduction, residuals, dloss):
        labels, where, score, total = residuals
        return right(classes, smooth, reduction, (labels, where, 0 * score, total), dloss)

    return mutant


DROPS = ["dropout", "drop_block"]  # with either way to scale
NORM_MUTANTS = [no_mean_term, no_variance_term, no_r]

# Where, what is put there, and the case of the table that has to notice.
REPLACED = [
    (convolution, "_dagger", no_flip, "conv-bias"),
    (convolution, "_dagger", no_flip, "conv-3d"),
    (convolution, "_dagger", no_channel_swap, "conv-strided-grouped"),
    (convolution, "_dagger", groups_mixed_up, "conv-strided-grouped"),
    (max_pooling, "add_at_maximum", spread_evenly, "max_pool"),
    (lp_pooling._lp_pool, "bwd", no_division_by_y, "lp_pool"),
    (mixed_pooling._mixed_pool, "bwd", shares_swapped, "mixed_pool"),
    (mixed_pooling._softmax_pool, "bwd", maximum_instead_of_y, "softmax_pool"),
    (stochastic_pooling._stochastic_pool_inference, "bwd", constant_probabilities, "stochastic_pool_inference"),
    (filter_normalization._spectral_norm, "bwd", constant_sigma, "spectral_norm"),
    *((dropout._dropout, "bwd", mutant, name) for name in DROPS for mutant in (mask_drawn_anew, mask_without_scale)),
    (pixel_shuffle._pixel_shuffle, "bwd", factors_first, "pixel_shuffle"),
    (pixel_shuffle._pixel_unshuffle, "bwd", channels_after_factors, "pixel_unshuffle"),
    (padding, "_strip_transposed", not_reversed, "pad-reflect"),
    (padding, "_strip_transposed", first_of_the_strip, "pad-replicate"),
    (dense._flatten, "bwd", columns_first, "flatten"),
    (cross_entropy, "spread", no_mean, "softmax_cross_entropy"),
    (cross_entropy, "spread", no_mean, "nll"),
    (cross_entropy, "spread", no_mean, "kl_divergence"),
    (binary_cross_entropy, "spread", no_mean, "sigmoid_cross_entropy"),
    (binary_cross_entropy, "spread", no_mean, "focal-all"),
    (regression, "spread", no_mean, "mean_squared_error"),
    (hinge, "spread", no_mean, "hinge-all"),
    (dice, "spread", no_mean, "dice"),
    (cross_entropy._softmax_cross_entropy, "bwd", no_sum_of_targets, "softmax_cross_entropy-weights"),
    (hinge._hinge, "bwd", label_not_pulled, "hinge"),
]
# The same, made from what is there.
WRAPPED = [
    (convolution_gradients, "input_grad", mean_for_sum, "conv_filter_grad"),
    (convolution_gradients, "convolve", first_filter_dropped, "conv_filter_grad"),
    (Window, "input_grad_padding", shifted, "conv-bias"),
    (Window, "input_grad_padding", remainder_at_the_front, "conv-strided-grouped"),
    (convolution, "bias_grad", mean_for_sum, "conv-bias"),
    (convolution, "filter_grad", mean_for_sum, "conv-bias"),
    (convolution, "filter_grad", last_image_dropped, "conv-1d"),
    (general_convolution, "input_grad", mean_for_sum, "conv_general_dilated"),
    (general_convolution, "filter_grad", last_image_dropped, "conv_general_dilated"),
    (on_cpu, "by_entry_over_batch", last_entry_dropped, "depthwise_conv"),
    (transposed_convolution, "filter_grad", mean_for_sum, "conv_transpose-bias"),
    (transposed_convolution, "convolve", first_filter_dropped, "conv_transpose-strided-grouped"),
    (Window, "input_grad_padding", shifted, "mean_pool-overlapping"),
    (weighted_pooling, "filter_grad", last_image_dropped, "weighted_pool"),
    (weighted_pooling, "input_grad", mean_for_sum, "weighted_pool-shared"),
    (stochastic_pooling, "add_at_winner", winner_one_further, "stochastic_pool"),
    (max_pooling, "max_and_winner", last_of_the_ties, "max_pool-ties"),
    (winners, "add_by_entry", winner_one_further, "max_pool-ties"),
    (winners, "add_by_window", winner_one_further, "max_pool-overlapping"),
    (winning_places, "add_at_place", winner_one_further, "max_pool-large"),
    (resampling._downsample, "bwd", mean_for_sum, "downsample"),
    (cross_entropy, "spread", no_mask, "softmax_cross_entropy-all"),
    (cross_entropy, "spread", no_mask, "kl_divergence-masked"),
    (binary_cross_entropy, "spread", no_mask, "sigmoid_cross_entropy-all"),
    (regression, "spread", no_mask, "mean_absolute_error-masked"),
    (dice._dice, "bwd", no_pixel_mask, "dice-masked"),
    (cross_entropy, "spread", mean_of_the_number, "softmax_cross_entropy-weights"),
    (cross_entropy, "spread", mean_of_the_number, "nll-all"),
    (cross_entropy._softmax_cross_entropy, "bwd", no_smoothing, "softmax_cross_entropy-all"),
    (cross_entropy._softmax_cross_entropy, "bwd", no_class_weights, "softmax_cross_entropy-soft-all"),
    (binary_cross_entropy._sigmoid_cross_entropy, "bwd", no_class_weights, "sigmoid_cross_entropy-all"),
    (cross_entropy._kl_divergence, "bwd", no_one_in_dq, "kl_divergence"),
    (binary_cross_entropy._focal, "bwd", not_focused, "focal"),
    (binary_cross_entropy._focal, "bwd", not_balanced, "focal"),
    (regression, "_HUBER", not_clipped, "huber-0.3"),
    (dice._dice, "bwd", no_size_of_the_regions, "dice"),
    *((resize._resize, "bwd", dy_resized, name) for name in ("resize", "resize-linear")),
    (resize._resize, "bwd", mean_for_sum, "resize-linear-3d"),
    *((normalization, "_normalise_dx", mutant, "group_norm") for mutant in NORM_MUTANTS),
    *((normalization, "_normalise_dx", mutant, "weight_norm") for mutant in NORM_MUTANTS[1:]),
    (filter_normalization._spectral_norm, "bwd", transposed_directions, "spectral_norm"),
    (local_response, "_sum_around", the_same_neighbours, "local_response_norm-even"),
    (local_response._local_response_norm, "bwd", mean_for_sum, "local_response_norm"),
    (batch_normalization._batch_norm_inference, "bwd", mean_for_sum, "batch_norm_inference"),
]


MUTANTS = [(*mutant, False) for mutant in REPLACED] + [(*mutant, True) for mutant in WRAPPED]


@pytest.mark.parametrize(
    ("where", "what", "wrong", "name", "wraps"), MUTANTS, ids=[f"{m[1]}-{m[2].__name__}-{m[3]}" for m in MUTANTS]
)
def test_broken_formula_is_found(where, what, wrong, name, wraps, patch):
    if isinstance(where, jax.custom_vjp):
        fwd, right = where.fwd.__wrapped__, where.bwd.__wrapped__
        for rule in ("fwd", "bwd"):
            patch(where, rule, getattr(where, rule))  # to be put back
        defvjp(where, fwd, functools.wraps(right)(wrong(right) if wraps else wrong))
    else:
        patch(where, what, wrong(getattr(where, what)) if wraps else wrong)
    assert found_wrong(case_of(name))
