"""What the peers that compile with JAX have in common: the training step, and how a function is compiled and kept."""

import hashlib
import re
import time
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmark.layers import forward
from benchmark.networks import LEARNING_RATE, MOMENTUM, draw_batch, draw_parameters
from benchmark.worker import Loaded

jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured, too


class JaxPeer:
    """A peer whose layers are functions of arrays and of parameters in jaxcnn's layout; subclasses add them."""

    packages: tuple[str, ...] = ()
    jit = staticmethod(jax.jit)  # of the training step

    def __init__(self, platform: str | None):
        devices = jax.devices(platform) if platform == "cpu" else jax.devices()
        jax.config.update("jax_default_device", devices[0])
        self.platform: str = devices[0].platform
        self.burst = 1 if self.platform == "cpu" else 10
        versions = {name: version(name) for name in ("jax", "jaxlib", *self.packages)}
        self.about = {"platform": self.platform, "device_kind": devices[0].device_kind, "versions": versions}

    @staticmethod
    def cross_entropy(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels).mean()

    @staticmethod
    def squared_error(y, target):
        return jnp.mean(jnp.square(y.astype(jnp.float32) - target.astype(jnp.float32)))

    def add(self, x, y):
        return x + y

    def place(self, images):
        """Images [N, *S, C] in the layout of the peer."""
        return images

    def prepare(self, network, dtype) -> tuple[Any, Any]:
        """The parameters, and the network as a function of parameters and a batch."""
        parameters = [{name: jnp.asarray(p, dtype) for name, p in layer.items()} for layer in draw_parameters(network)]
        return parameters, lambda parameters, x: forward(network.layers, iter(parameters), x, self)

    def load_network(self, network, dtype):
        """The training step: gradient, and stochastic gradient descent with momentum."""
        parameters, model = self.prepare(network, dtype)
        of = self.squared_error if network.reconstructs else self.cross_entropy
        images, labels = draw_batch(network)
        x = jnp.asarray(self.place(images), dtype)
        y = x if network.reconstructs else jnp.asarray(labels)

        value_and_gradient = jax.value_and_grad(lambda parameters, x, y: of(model(parameters, x), y))
        if network.per_example:
            value_and_gradient = _clipped_per_example(value_and_gradient)

        def step(state, x, y):
            parameters, velocity = state
            value, gradient = value_and_gradient(parameters, x, y)
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradient)
            parameters = jax.tree.map(lambda p, v: p - LEARNING_RATE * v, parameters, velocity)
            return (parameters, velocity), value

        state = (parameters, jax.tree.map(jnp.zeros_like, parameters))
        compile = compiler(self.jit(step, donate_argnums=0), state, x, y)
        compiled, _ = compile()

        def start():
            nonlocal state
            state, value = compiled(state, x, y)
            return state, value

        losses = [float(start()[1]) for _ in range(2)]
        return Loaded(start, jax.block_until_ready, losses, self.burst, memory(compiled), lambda: compile()[1])

    def apply(self, operation, x, w):
        """One operation of the table, w being None for pooling."""
        raise NotImplementedError

    def load_operation(self, operation, part, dtype):
        """A part of an operation; its outcome is a sample of its results.

        The gradient of pooling comes with its forward pass: what one of them finds out may serve the other.
        """
        x, w, dy = (None if a is None else jnp.asarray(a, dtype) for a in operation.draw())

        def forward_pass(x, w, dy):
            return self.apply(operation, x, w)

        def input_gradient(x, w, dy):
            y, pull = jax.vjp(lambda x: self.apply(operation, x, w), x)
            return pull(dy) if operation.has_filter else (y, pull(dy))

        def filter_gradient(x, w, dy):
            return jax.vjp(lambda w: self.apply(operation, x, w), w)[1](dy)

        parts = {"forward": forward_pass, "input": input_gradient, "filter": filter_gradient}
        return self._load(parts[part], x, w, dy)

    def load_product(self, dtype, quick):
        """A product of two large matrices, whose operations per second are taken as the machine's peak."""
        size = 256 if quick else 2048 if self.platform == "cpu" else 8192
        a = jnp.ones((size, size), dtype)
        loaded = self._load(jnp.matmul, a, a)
        loaded.facts["flops"] = 2 * size**3
        return loaded

    def _load(self, function, *arguments):
        compiled, _ = compiler(jax.jit(function), *arguments)()
        results = [np.asarray(a.astype(jnp.float32)).ravel() for a in jax.tree.leaves(compiled(*arguments))]
        outcome = [float(a[i]) for a in results for i in np.linspace(0, a.size - 1, 32).astype(int)]
        facts = {"program": fingerprint(compiled.as_text())}
        return Loaded(lambda: compiled(*arguments), jax.block_until_ready, outcome, self.burst, facts)


def _clipped_per_example(value_and_gradient):
    """The mean value, and the mean of the gradients of the examples, each clipped to the norm 1."""
    each = jax.vmap(lambda parameters, x, y: value_and_gradient(parameters, x[None], y[None]), in_axes=(None, 0, 0))

    def clipped(parameters, x, y):
        values, gradients = each(parameters, x, y)
        leaves, structure = jax.tree.flatten(gradients)
        sums, _ = optax.per_example_global_norm_clip(leaves, 1.0)
        return values.mean(), jax.tree.unflatten(structure, [total / len(x) for total in jax.tree.leaves(sums)])

    return clipped


def compiler(jitted, *arguments):
    """What compiles a jitted function for such arguments, with empty caches, and returns it and the seconds it took."""
    shapes = jax.eval_shape(lambda *arguments: arguments, *arguments)

    def compile():
        jax.clear_caches()
        begin = time.perf_counter()
        compiled = jitted.lower(*shapes).compile()
        return compiled, time.perf_counter() - begin

    return compile


def fingerprint(text):
    """A hash of the instructions of a compiled program, given its text, whatever their names and origins."""
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    text = re.sub(r", metadata=\{[^{}]*\}", "", "\n".join(lines))
    names: dict[str, str] = {}
    text = re.sub(r"%[\w.\-]+", lambda name: names.setdefault(name[0], f"%{len(names)}"), text)
    return hashlib.sha256(text.encode()).hexdigest()


def memory(compiled):
    """Bytes of arguments, of results that are not stored in place of arguments, and of temporaries."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return {}
    lasting = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return {"memory_bytes": lasting + analysis.temp_size_in_bytes}
