"""What the options of `jaxcnn check` mean: the arguments that it makes, and names, positions and numbers."""

import argparse
import ast
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_HIGH = 2  # integers are below it by default: an axis of more than one entry has these indices


@dataclass(frozen=True)
class Floats:
    """Normal numbers, in the dtype of --dtype."""

    shape: tuple[int, ...]

    def make(self, random: np.random.Generator, dtype: str) -> jax.Array:
        numbers = random.normal(size=self.shape)
        if dtype.startswith("complex"):
            numbers = numbers + 1j * random.normal(size=self.shape)
        return jnp.asarray(numbers, dtype)

    def said(self, dtype: str) -> str:
        return f"{dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Integers:
    """Integers from 0 to high - 1."""

    shape: tuple[int, ...]
    high: int

    def make(self, random: np.random.Generator, dtype: str) -> jax.Array:
        return jnp.asarray(random.integers(self.high, size=self.shape), jnp.int32)

    def said(self, dtype: str) -> str:
        return f"int32 {list(self.shape)}"


@dataclass(frozen=True)
class Key:
    """A random key."""

    def make(self, random: np.random.Generator, dtype: str) -> jax.Array:
        return jax.random.key(int(random.integers(2**31)))

    def said(self, dtype: str) -> str:
        return "a key"


@dataclass(frozen=True)
class Static:
    """A value of Python."""

    value: Any

    def make(self, random: np.random.Generator, dtype: str) -> Any:
        return self.value

    def said(self, dtype: str) -> str:
        return repr(self.value)


def floats(text: str) -> Floats:
    return Floats(_shape(text, "give sizes as in 8,32,32,16"))


def integers(text: str) -> Integers:
    expected = "give sizes, and above which number none is, as in 8,32 or 8,32:10"
    sizes, colon, high = text.partition(":")
    if colon and not (high.isdecimal() and 0 < int(high) < 2**31):
        raise argparse.ArgumentTypeError(f"{expected}, not {text!r}")
    return Integers(_shape(sizes, expected, text), int(high) if colon else _HIGH)


def static(text: str) -> Static:
    try:
        return Static(ast.literal_eval(text.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise argparse.ArgumentTypeError(
            f"""give a value as Python writes it, as in 0.5, None, "(2, 2)" or "'SAME'", not {text!r}"""
        ) from None


def positions(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"give positions as in 0,2, not {text!r}") from None


def tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"give a positive number, not {text!r}")
    return value


def module_and_function(text: str) -> tuple[str, str]:
    module, colon, function = text.partition(":")
    if not (colon and all(part.isidentifier() for part in [*module.split("."), *function.split(".")])):
        raise argparse.ArgumentTypeError(f"give package.module:function, not {text!r}")
    return module, function


def _shape(sizes: str, expected: str, text: str | None = None) -> tuple[int, ...]:
    each = [] if sizes == "()" else sizes.split(",")
    if not all(size.strip().isdecimal() for size in each):
        raise argparse.ArgumentTypeError(f"{expected}, not {sizes if text is None else text!r}")
    return tuple(map(int, each))
