"""Sums of few entries along an axis: y[i] = Σ_j A[i, j] x[j] with a matrix A that is zero almost everywhere.

`global_pooling.py` and `resize.py` say what the sums are; this file knows how to compute them in time and memory that
grow with the axis, not with its square. An entry whose factor is zero is left out: a NaN there reaches nothing.
"""

import functools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import lax

_FEW_TERMS = 16  # terms; each that is written out is one more operation to compile


@dataclass(frozen=True)
class Terms:
    """The entries of a matrix A [m, n] that are not zero: A[i, places[i, k]] = factors[i, k].

    Rows with fewer of them than others are filled up with factors of zero, at any place.
    """

    places: np.ndarray  # [m, K]
    factors: np.ndarray  # [m, K]


def transposed(terms: Terms, n: int) -> Terms:
    """The entries of Aᵀ [n, m]."""
    row, k = np.nonzero(terms.factors)
    place = terms.places[row, k]
    order = np.argsort(place, kind="stable")
    row, k, place = row[order], k[order], place[order]
    count = np.bincount(place, minlength=n)
    column = np.arange(len(place)) - (np.cumsum(count) - count)[place]  # counts the terms of each place from 0
    places, factors = np.zeros((n, max(count)), int), np.zeros((n, max(count)))
    places[place, column] = row
    factors[place, column] = terms.factors[row, k]
    return Terms(places, factors)


def sum_terms(x, terms, axis):
    """A x along an axis. A sum of few terms is written out: XLA makes one loop over the result of it."""
    m, most = terms.places.shape
    if most <= _FEW_TERMS:
        pairs = zip(terms.places.T, terms.factors.T, strict=True)
        return functools.reduce(lax.add, (_multiplied(_take(x, p, axis), a, axis) for p, a in pairs))
    taken = _take(x, terms.places.reshape(-1), axis)
    products = _multiplied(taken, terms.factors.reshape(-1), axis)
    return jnp.sum(products.reshape(*x.shape[:axis], m, most, *x.shape[axis + 1 :]), axis + 1)


def _take(x, places, axis):
    """The entries of x at these places of the axis."""
    return x if np.array_equal(places, np.arange(x.shape[axis])) else jnp.take(x, places, axis=axis, mode="clip")


def _multiplied(x, factors, axis):
    """factors ⊙ x along an axis; 0 where the factor is 0, of a NaN as well."""
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    product = x if (factors == 1).all() else x * jnp.asarray(factors.reshape(shape), x.dtype)
    return (
        product
        if factors.all()
        else jnp.where(jnp.asarray((factors != 0).reshape(shape)), product, np.zeros((), x.dtype))
    )
