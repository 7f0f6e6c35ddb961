"""What the programs of all ops hold: no constant that grows with the image, no double precision for single."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from table import CASES, LOSSES

import jaxcnn as jc

LABELLED = [
    pytest.param(op, labels, id=op.__name__)
    for op, labels in (
        (jc.softmax_cross_entropy, np.zeros((3, 600), np.int32)),
        (jc.nll, np.zeros((3, 600), np.int32)),
        (jc.hinge, np.zeros((3, 600), np.int32)),
        (jc.dice, np.zeros((3, 600), np.int32)),
        (jc.sigmoid_cross_entropy, np.zeros((3, 600, 4))),
        (jc.focal, np.zeros((3, 600, 4), np.int32)),
    )
]
# Some calls of the table hold labels, masks or indices of their own.
OTHERS = [case for case in CASES if case.name != "max_unpool" and case.note != "masked"]
WITHOUT_LABELS = [case for case in OTHERS if case not in LOSSES or (len(case.shapes(1)) == 2 and not case.note)]


def both(f):
    """The value and the gradients of f."""

    def value_and_gradients(*args):
        y, back = jax.vjp(f, *args)
        return y, back(jax.tree.map(jnp.ones_like, y))

    return value_and_gradients


def enlarged(case, dtype=np.float64):
    """The arguments as types, the images 16 times as long on each spatial axis if the case can be called with them."""
    types = [jax.ShapeDtypeStruct(shape, dtype) for shape in case.shapes(3)]
    images = [len(a) > 2 and a[0] != b[0] for a, b in zip(case.shapes(3), case.shapes(4), strict=True)]
    large = [
        jax.ShapeDtypeStruct((a.shape[0], *(16 * n for n in a.shape[1:-1]), a.shape[-1]), dtype) if image else a
        for a, image in zip(types, images, strict=True)
    ]
    try:
        jax.eval_shape(case.f, *large)
    except ValueError:
        return types
    return large


def equations(jaxpr):
    """All equations of a program, and its constants: those of the programs within it as well."""
    constants = []
    if isinstance(jaxpr, ClosedJaxpr):
        constants, jaxpr = list(jaxpr.consts), jaxpr.jaxpr
    found = []
    for equation in jaxpr.eqns:
        found.append(equation)
        constants += [atom.val for atom in equation.invars if isinstance(atom, Literal)]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
            if is_jaxpr(inner):
                more, of_inner = equations(inner)
                found, constants = found + more, constants + of_inner
    return found, constants


def is_jaxpr(value):
    return isinstance(value, (ClosedJaxpr, Jaxpr))


def largest_constant(f, *types):
    return max((np.size(constant) for constant in equations(jax.make_jaxpr(f)(*types))[1]), default=0)


def sides(types):
    return max((n for type in types for n in type.shape), default=1)


@pytest.mark.parametrize("case", WITHOUT_LABELS, ids=str)
def test_no_constant_grows_with_the_image(case):
    """A vector for an axis may."""
    types = enlarged(case)
    assert largest_constant(both(case.f), *types) <= 2 * sides(types)


@pytest.mark.parametrize(("loss", "labels"), LABELLED)
def test_no_constant_grows_with_the_labels(loss, labels):
    def value_and_gradient(z, labels):
        return both(lambda z: loss(z, labels))(z)

    assert largest_constant(value_and_gradient, np.zeros((3, 600, 4)), labels) <= 4


@pytest.mark.parametrize("case", [case for case in CASES if re.search("pool|drop", case.name)], ids=str)
def test_single_precision_has_no_arrays_of_double(case):
    types = enlarged(case, np.float32)
    wide = [
        var.aval
        for equation in equations(jax.make_jaxpr(both(case.f))(*types))[0]
        for var in equation.outvars
        if getattr(var.aval, "dtype", None) == np.float64 and var.aval.size > 1
    ]
    assert not wide
