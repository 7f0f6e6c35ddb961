"""What is gained where a model stays as it is, and one line of its training step changes?

    python experiments/explicit.py            about 3 minutes on 2 cores
    python experiments/explicit.py --quick    tiny images, one round: does it work?

times one training step (loss, gradient, SGD with momentum; float32) of a ResNet and a MobileNet in flax.linen and of a
CNN in Equinox, as their users write them, before and after `loss` becomes `jaxcnn.explicit(loss)`. Both steps start
from the same parameters and have to give the same loss before and after the first update. They are compiled first and
then timed in turns.

On 2 cores of an AMD EPYC: the ResNet takes 1.2 times as long before, the MobileNet 6.8 times, the CNN 3.2 times.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from benchmark import report, worker

import jaxcnn

optimizer = optax.sgd(0.01, momentum=0.9)


class Block(nn.Module):
    filters: int
    stride: int = 1

    @nn.compact
    def __call__(self, x, train):
        def norm(x):
            return nn.BatchNorm(use_running_average=not train)(x)

        y = nn.relu(norm(nn.Conv(self.filters, (3, 3), self.stride, use_bias=False)(x)))
        y = norm(nn.Conv(self.filters, (3, 3), use_bias=False)(y))
        if y.shape != x.shape:
            x = norm(nn.Conv(self.filters, (1, 1), self.stride, use_bias=False)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """As for ImageNet: a 7x7 convolution and max-pooling, then stages of two blocks."""

    width: int
    stages: int = 4

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Conv(self.width, (7, 7), 2, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage in range(self.stages):
            for block in range(2):
                x = Block(self.width * 2**stage, 2 if stage > 0 and block == 0 else 1)(x, train)
        return nn.Dense(10)(jnp.mean(x, (1, 2)))


class MobileNet(nn.Module):
    """Depthwise convolutions of 3x3, each with one of 1x1 behind it."""

    width: int
    depth: int = 7

    @nn.compact
    def __call__(self, x, train=True):
        def layer(x, filters, size, stride=1, groups=1):
            x = nn.Conv(filters, (size, size), stride, feature_group_count=groups, use_bias=False)(x)
            return nn.relu(nn.BatchNorm(use_running_average=not train)(x))

        x = layer(x, self.width, 3, 2)
        for factor, stride in ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), (16, 1))[: self.depth]:
            x = layer(x, x.shape[-1], 3, stride, groups=x.shape[-1])
            x = layer(x, self.width * factor, 1)
        return nn.Dense(10)(jnp.mean(x, (1, 2)))


class CNN(eqx.Module):
    """Of one image, channels first, as everything in Equinox."""

    layers: list

    def __init__(self, width, key):
        keys = jax.random.split(key, 4)
        self.layers = [
            *(eqx.nn.Conv2d(3, width, 5, padding=2, key=keys[0]), jax.nn.relu, eqx.nn.MaxPool2d(3, 2, padding=1)),
            *(
                eqx.nn.Conv2d(width, 2 * width, 5, padding=2, key=keys[1]),
                jax.nn.relu,
                eqx.nn.MaxPool2d(3, 2, padding=1),
            ),
            *(eqx.nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=4, key=keys[2]), jax.nn.relu),
            *(eqx.nn.AdaptiveAvgPool2d(1), jnp.ravel, eqx.nn.Linear(2 * width, 10, key=keys[3])),
        ]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def cross_entropy(logits, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def flax_step(model: nn.Module, images: jax.Array, labels: jax.Array, change: Callable) -> tuple[Callable, Any]:
    def loss(params, statistics, images, labels):
        variables = {"params": params, "batch_stats": statistics}
        logits, state = model.apply(variables, images, mutable=["batch_stats"])
        return cross_entropy(logits, labels), state["batch_stats"]

    loss = change(loss)  # the line that changes: loss = jaxcnn.explicit(loss)

    @jax.jit
    def step(state, images, labels):
        params, statistics, moments = state
        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(params, statistics, images, labels)
        updates, moments = optimizer.update(gradient, moments, params)
        return value, (optax.apply_updates(params, updates), statistics, moments)

    variables = jax.jit(model.init)(jax.random.key(0), images)
    return step, (variables["params"], variables["batch_stats"], optimizer.init(variables["params"]))


def equinox_step(model: eqx.Module, images: jax.Array, labels: jax.Array, change: Callable) -> tuple[Callable, Any]:
    params, static = eqx.partition(model, eqx.is_array)

    def loss(model, images, labels):
        return cross_entropy(jax.vmap(model)(jnp.moveaxis(images, -1, 1)), labels)

    loss = change(loss)  # the line that changes: loss = jaxcnn.explicit(loss)

    @jax.jit
    def step(state, images, labels):
        params, moments = state
        value, gradient = eqx.filter_value_and_grad(loss)(eqx.combine(params, static), images, labels)
        updates, moments = optimizer.update(gradient, moments)
        return value, (eqx.apply_updates(params, updates), moments)

    return step, (params, optimizer.init(params))


def networks(quick: bool) -> dict[str, tuple[Callable, Any, tuple[int, ...]]]:
    """Of each network what makes its training step, the model, and the shape of a batch."""
    width, shape = (8, (2, 16, 16, 3)) if quick else (32, (32, 64, 64, 3))
    resnet, mobilenet = (
        (ResNet(width, stages=1), MobileNet(width, depth=1)) if quick else (ResNet(width), MobileNet(width))
    )
    return {
        "ResNet, flax.linen": (flax_step, resnet, shape),
        "MobileNet, flax.linen": (flax_step, mobilenet, shape),
        "CNN, Equinox": (equinox_step, CNN(width, jax.random.key(0)), shape),
    }


def prepare(make: Callable, model: Any, shape: tuple[int, ...], change: Callable) -> tuple[Callable[[], None], list]:
    """A compiled step to call, and the losses before the first two updates."""
    rng = np.random.default_rng(0)
    images, labels = jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(rng.integers(0, 10, shape[0]))
    step, state = make(model, images, labels, change)
    compiled = step.lower(state, images, labels).compile()
    first, after = compiled(state, images, labels)
    second, _ = compiled(after, images, labels)
    return lambda: jax.block_until_ready(compiled(state, images, labels)), [float(first), float(second)]


def seconds(call: Callable[[], None], budget: float) -> list[float]:
    """Of single calls, as many as fit into the budget: at least 3."""
    times = []
    while len(times) < 3 or sum(times) < budget:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


def milliseconds(times: list[float]) -> str:
    low, middle, high = (1e3 * q for q in np.quantile(times, (0.25, 0.5, 0.75)))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main() -> int:
    parser = argparse.ArgumentParser(description="Training steps before and after jaxcnn.explicit.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both steps (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny images and 1 round")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    rounds, budget = (1, 0.0) if options.quick else (options.rounds, 2.0)

    rows, failed = [], False
    for name, (make, model, shape) in networks(options.quick).items():
        changes = {"before": lambda loss: loss, "after": jaxcnn.explicit}
        steps, losses = {}, {}
        for side, change in changes.items():
            steps[side], losses[side] = prepare(make, model, shape, change)
        if not np.allclose(losses["before"], losses["after"], rtol=1e-3):
            failed = True
            print(f"{name}: the losses are {losses['before']} before and {losses['after']} after", flush=True)
            continue
        times = {side: [] for side in steps}
        for _ in range(rounds):
            for side, call in steps.items():
                times[side] += seconds(call, budget)
        gain = statistics.median(times["before"]) / statistics.median(times["after"])
        batch = "x".join(map(str, shape))
        rows.append([name, batch, *(milliseconds(times[side]) for side in steps), f"{gain:.2f}"])

    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "jaxcnn", "flax", "equinox", "optax")
    about = {"platform": device.platform, "device_kind": device.device_kind}
    machine = report.machine({"": {**about, "versions": {name: version(name) for name in packages}}}, worker.cores())
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    print(f"{machine['device']}, {machine['cores']} cores, {machine['system']}, {versions}, {machine['date']}.")
    print(f"float32, {rounds} interleaved rounds. Milliseconds of a training step: median (quartiles).\n")
    print(report.table(["network", "batch", "before", "after", "before / after"], rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
