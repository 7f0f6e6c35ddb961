"""What do our gradients do on an accelerator, beside those that JAX derives?

    python experiments/accelerators.py --device --out FOLDER       about 8 minutes on the default device
    python experiments/accelerators.py --device --quick --out FOLDER    small, on a CPU too: does it work?

measures on the device that JAX finds: how far the gradients of the operations of `benchmark.py` are from float64, how
long they, other ops and whole models take next to the gradient that JAX derives of the same function, how much memory
that needs, whether two runs agree to the last bit, and the tests of every op. What is measured is written after every
part, to `device.json` and `device.md`; a part that fails is named, and the next begins.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from benchmark import operations
from benchmark.comparison import geometric_mean
from benchmark.peers.jax_peer import fingerprint
from benchmark.peers.jaxcnn_peer import Peer as Ours
from benchmark.peers.lax_peer import Peer as Lax

import jaxcnn as jc
from jaxcnn import nn

HERE = Path(__file__).parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# Ops that are no convolutions, each as a function of an image, and the image.
IMAGE, LARGE = (32, 56, 56, 64), (32, 112, 112, 64)
OTHERS = {
    "max_pool 2/2": (partial(jc.max_pool, window=2), IMAGE),
    "max_pool 3/2": (partial(jc.max_pool, window=3, stride=2, padding="SAME"), LARGE),
    "max_pool 3/1": (partial(jc.max_pool, window=3, stride=1, padding="SAME"), (32, 28, 28, 256)),
    "max_pool 2/2 of volumes": (partial(jc.max_pool, window=2), (4, 32, 32, 32, 32)),
    "mean_pool 2/2": (partial(jc.mean_pool, window=2), IMAGE),
    "mean_pool 3/2": (partial(jc.mean_pool, window=3, stride=2, padding="SAME"), IMAGE),
    "mean_pool 3/1": (partial(jc.mean_pool, window=3, stride=1, padding="SAME"), IMAGE),
    "lp_pool 2/2": (partial(jc.lp_pool, p=2, window=2), IMAGE),
    "softmax_pool 2/2": (lambda x: jc.softmax_pool(x, jnp.ones((), x.dtype), 2), IMAGE),
    "global_max_pool": (jc.global_max_pool, IMAGE),
    "global_mean_pool": (jc.global_mean_pool, IMAGE),
    "adaptive_mean_pool 7": (partial(jc.adaptive_mean_pool, shape=(7, 7)), IMAGE),
    "adaptive_max_pool 6": (partial(jc.adaptive_max_pool, shape=(6, 6)), IMAGE),
    "upsample 2": (partial(jc.upsample, factor=2), (32, 28, 28, 64)),
    "resize linear": (partial(jc.resize, shape=(112, 112), method="linear"), IMAGE),
    "resize nearest": (partial(jc.resize, shape=(112, 112), method="nearest"), IMAGE),
    "pixel_shuffle 2": (partial(jc.pixel_shuffle, factor=2), IMAGE),
    "relu": (jc.relu, IMAGE),
    "gelu": (jc.gelu, IMAGE),
    "silu": (jc.silu, IMAGE),
    "mish": (jc.mish, IMAGE),
    "softmax": (jc.softmax, (8192, 1000)),
    "local_response_norm": (partial(jc.local_response_norm, size=5), IMAGE),
}
WITH_SCALES = {
    "batch_norm": lambda x, gamma, beta: jc.batch_norm(x, gamma, beta)[0],
    "layer_norm": jc.layer_norm,
    "group_norm 8": lambda x, gamma, beta: jc.group_norm(x, gamma, beta, groups=8),
    "instance_norm": jc.instance_norm,
    "rms_norm": lambda x, gamma, beta: jc.rms_norm(x, gamma) + beta,
}
CLASSIFIERS = {
    "ResNet-50": (nn.resnet(50), (32, 224, 224, 3)),
    "MobileNet v2": (nn.mobilenet_v2(), (32, 224, 224, 3)),
    "VGG-16 with batch norm": (nn.vgg(16, batch_norm=True), (32, 224, 224, 3)),
    "ConvNeXt": (nn.convnext(), (32, 224, 224, 3)),
    "U-Net": (nn.unet(), (4, 256, 256, 1)),
    "U-Net 3-D": (nn.unet_3d(), (1, 64, 64, 64, 3)),
}
SMALL = {"LeNet": (nn.lenet(), (8, 28, 28, 1)), "U-Net": (nn.unet(depth=1, width=4), (2, 16, 16, 1))}


def drawn(shapes, dtype):
    return [normal(shape, number).astype(dtype) for number, shape in enumerate(shapes)]


NORMAL = np.random.default_rng(1).standard_normal(1_000_003).astype(np.float32)


def normal(shape, number=0):
    """Standard normal numbers that bfloat16 holds, so that all dtypes have the same; they recur in large arrays."""
    return jnp.asarray(np.resize(np.roll(NORMAL, 314_159 * number), shape), jnp.bfloat16)


def filled(like):
    """Filters of about the scale of their initialisation; ones for what has one axis."""
    if len(like.shape) < 2:
        return jnp.ones(like.shape, like.dtype)
    return jnp.asarray(np.resize(NORMAL, like.shape) * np.sqrt(2 / np.prod(like.shape[:-1])), like.dtype)


def gradient_of(f, argument, *arrays):
    """The gradient with respect to one argument of <f, dy>, dy being the last array."""
    *arrays, dy = arrays
    _, pull = jax.vjp(lambda a: f(*arrays[:argument], a, *arrays[argument + 1 :]), arrays[argument])
    return pull(dy)[0]


def both_passes(f, *arrays):
    """The value, and the gradients with respect to all arrays but the last, dy."""
    y, pull = jax.vjp(f, *arrays[:-1])
    return y, pull(arrays[-1])


def forward_of(f, *arrays):
    return f(*arrays[:-1])


def both_sides(of, ours, theirs, *more):
    return partial(of, ours, *more), partial(of, theirs, *more)


def operation_cases(quick, dtypes, batches=1):
    """{name: (ours, theirs, arrays)} of the parts of the operations of the benchmark."""
    cases = {}
    for dtype in dtypes:
        for operation in operations.QUICK if quick else operations.OPERATIONS:
            n, *rest = operation.input
            operation = replace(operation, input=(n * batches, *rest))
            shapes = operation.input, operation.filter_shape, operation.output
            arrays = [normal(shape, i).astype(dtype) for i, shape in enumerate(shapes) if shape is not None]
            both = [partial(peer.apply, None, operation) for peer in (Ours, Lax)]
            if operation.has_filter:
                parts = {"dx": both_sides(gradient_of, *both, 0), "dw": both_sides(gradient_of, *both, 1)}
            else:
                both = [partial(f, w=None) for f in both]
                parts = {"dx": both_sides(both_passes, *both)}
            for part, functions in {"forward": both_sides(forward_of, *both), **parts}.items():
                cases[f"{operation.name} | {part} | {dtype}"] = (*functions, arrays)
    return cases


def other_cases(quick, dtypes, batches):
    """The same for the ops that are no convolutions, beside what JAX derives of their plain functions."""
    cases = {}

    def sized(shape):
        return (2, *(max(2, s // 8) for s in shape[1:])) if quick else (batches * shape[0], *shape[1:])

    for dtype in dtypes:
        for name, (f, shape) in {**OTHERS, **{name: (f, IMAGE) for name, f in WITH_SCALES.items()}}.items():
            shapes = [sized(shape)] + [sized(shape)[-1:]] * 2 * (name in WITH_SCALES)
            y = jax.eval_shape(f, *(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes))
            arrays = drawn([*shapes, y.shape], dtype)
            cases[f"{name} | both | {dtype}"] = (*both_sides(both_passes, f, jc.derived(f)), arrays)
    return cases


def model_cases(quick, dtypes):
    """Value and gradient of a training loss."""
    cases = {}
    for name, (model, shape) in (SMALL if quick else CLASSIFIERS).items():
        init = partial(model.init, input_shape=shape)
        params, statistics = jax.tree.map(filled, jax.eval_shape(init, jax.random.key(0)))
        out, _ = jax.eval_shape(model.apply, params, statistics, jax.ShapeDtypeStruct(shape, "float32"))
        labels = jnp.asarray(np.random.default_rng(0).integers(0, out.shape[-1], out.shape[:-1]), jnp.int32)
        for dtype in dtypes:
            cast = partial(jax.tree.map, lambda a, dtype=dtype: a.astype(dtype))

            def risk(params, x, model=model, statistics=statistics, labels=labels):
                logits, _ = model.apply(params, statistics, x, train=True, key=jax.random.key(1))
                return jc.softmax_cross_entropy(logits.astype(jnp.float32), labels)

            both = jax.value_and_grad(risk), jax.value_and_grad(jc.derived(risk))
            cases[f"{name} | step | {dtype}"] = (*both, [cast(params), drawn([shape], dtype)[0]])
    return cases


def compiled(case):
    """Both programs of a case, compiled; or the error."""
    *functions, arrays = case
    answers = []
    for f in functions:
        try:
            begin = time.perf_counter()
            program = jax.jit(f).lower(*arrays).compile()
            answers.append((program, time.perf_counter() - begin))
        except Exception as error:  # the other one may do
            answers.append((None, f"{type(error).__name__}: {str(error)[:300]}"))
    return answers


def seconds(program, arrays, budget):
    """Seconds per call of calls that are queued one behind the other, in about `budget` seconds."""
    begin = time.perf_counter()
    jax.block_until_ready(program(*arrays))
    once = time.perf_counter() - begin
    calls = max(1, min(100, int(budget / once)))
    begin = time.perf_counter()
    jax.block_until_ready([program(*arrays) for _ in range(calls)][-1])
    return (time.perf_counter() - begin) / calls


def difference(a, b):
    """The largest distance over the largest entry of b, of all leaves."""
    worst = 0.0
    for got, expected in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        got, expected = (np.asarray(v, np.float64) for v in (got, expected))
        worst = max(worst, float(np.max(np.abs(got - expected)) / max(np.max(np.abs(expected)), 1e-30)))
    return worst


def measure(cases, options, rounds, budget, save):
    """Times of all cases, ours and theirs in turn, after all have been compiled side by side."""
    results: dict[str, dict[str, Any]] = {}
    cases = {name: case for name, case in cases.items() if any(text in name for text in options.only or [""])}
    pool = ThreadPoolExecutor(max(1, CORES - 2))
    futures = {name: pool.submit(compiled, case) for name, case in cases.items()}
    wait(futures.values(), timeout=max(1, options.end - 20 - time.monotonic()))
    pool.shutdown(wait=False, cancel_futures=True)
    print(f"compiled, {options.end - time.monotonic():.0f} s left", flush=True)
    programs = {name: future.result() for name, future in futures.items() if future.done() and not future.cancelled()}
    for name in set(cases) - set(programs):
        results[name] = {"error": "not compiled in time"}
    for name, both in programs.items():
        if time.monotonic() > options.end:
            results[name] = {"error": "no time left"}
            continue
        arrays = cases[name][-1]
        row = results[name] = {}
        try:
            errors = [c for program, c in both if program is None]
            if errors:
                row["error"] = errors
                continue
            (ours, row["ours_compiled_in"]), (theirs, row["theirs_compiled_in"]) = both
            row["ours_temp"], row["theirs_temp"] = (p.memory_analysis().temp_size_in_bytes for p in (ours, theirs))
            row["same"] = fingerprint(ours) == fingerprint(theirs)
            a, b = ours(*arrays), theirs(*arrays)
            row["difference"] = difference(a, b)
            again = zip(jax.tree.leaves(a), jax.tree.leaves(ours(*arrays)), strict=True)
            row["repeats"] = all(bool(jnp.array_equal(one, two)) for one, two in again)
            del a, b
            if not row["same"]:
                turns = [(seconds(ours, arrays, budget), seconds(theirs, arrays, budget)) for _ in range(rounds)]
                row["ours"], row["theirs"] = (float(np.median(t)) for t in zip(*turns, strict=True))
                row["ratio"] = float(np.median([b / a for a, b in turns]))
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        save(results)
    return results


def part_of_operations(options, save):
    cases = operation_cases(options.quick, options.dtypes, options.batches)
    return measure(cases, options, options.rounds, 0.004, save)


def part_of_others(options, save):
    cases = other_cases(options.quick, options.dtypes, max(1, options.batches // 2))
    return measure(cases, options, options.rounds, 0.004, save)


def part_of_models(options, save):
    return measure(model_cases(options.quick, options.dtypes), options, max(3, options.rounds // 2), 0.1, save)


def part_of_numbers(options, save):
    """Distance from float64 on the CPU: an own process, which has float64, computes the expected gradients."""
    path = options.out / "expected.npz"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    command = [sys.executable, __file__, "--expected", str(path), *(["--quick"] if options.quick else [])]
    subprocess.run(command, env=environment, check=True, timeout=max(1, options.end - time.monotonic()))
    expected = np.load(path)
    results = {}
    for name, (ours, theirs, arrays) in operation_cases(options.quick, ["float32", "bfloat16", "float16"]).items():
        if "forward" in name or time.monotonic() > options.end:
            continue
        wanted = expected[name.rpartition(" | ")[0]]
        row = results[name] = {}
        for who, f in (("ours", ours), ("theirs", theirs)):
            got = last_result(f, arrays)
            row[who] = float(np.max(np.abs(got - wanted)) / np.max(np.abs(wanted)))
        save(results)
    path.unlink()
    return results


def last_result(f, arrays):
    """About 4,096 entries of the gradient, which comes last."""
    a = np.asarray(jax.tree.leaves(jax.jit(f)(*arrays))[-1], np.float64)
    return a.ravel()[:: max(1, a.size // 4096)]


def write_expected(path, quick):
    cases = operation_cases(quick, ["float64"])
    with ThreadPoolExecutor(max(1, CORES // 2)) as pool:
        names = [name for name in cases if "forward" not in name]
        values = pool.map(lambda name: last_result(cases[name][0], cases[name][-1]), names)
        expected: dict[str, Any] = {name.rpartition(" | ")[0]: v for name, v in zip(names, values, strict=True)}
    np.savez(path, **expected)


def part_of_tests(options, save):
    """The tests of every op, on the device."""
    left = max(30, options.end - time.monotonic())
    chosen = "jax_derives and relu" if options.quick else "jax_derives or dtype"
    pytest = ["pytest", "-q", "-n", "6", "--tb=line", "--maxfail=60", "-p", "no:benchmark", "-k", chosen]
    command = [sys.executable, "-m", *pytest, "tests/ops/test_every_op.py"]
    environment = {**os.environ, "JAX_PLATFORMS": "", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.1"}
    try:
        done = subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True, timeout=left)
        text, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        text, code = (late.stdout or b"").decode(), "no time left"
    (options.out / "tests.txt").write_text(text)
    return {"exit": code, "tail": text[-3000:]}


PARTS = {
    "operations": part_of_operations,
    "others": part_of_others,
    "models": part_of_models,
    "numbers": part_of_numbers,
    "tests": part_of_tests,
}


def table(results):
    lines = [
        "| | ours, ms | jax.grad, ms | jax.grad / ours | temporary MB, ours / jax.grad | difference |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        name = name.replace(" | ", ", ")
        if "error" in row:
            lines.append(f"| {name} | {row['error']} | | | | |")
        elif "ours_temp" in row:
            memory = f"{row['ours_temp'] / 1e6:.1f} / {row['theirs_temp'] / 1e6:.1f}"
            times = "| | same"
            if "ratio" in row:
                times = f"{1e3 * row['ours']:.3f} | {1e3 * row['theirs']:.3f} | {row['ratio']:.2f}"
            lines.append(f"| {name} | {times} | {memory} | {row['difference']:.0e} |")
        else:
            lines.append(f"| {name} | {row['ours']:.1e} | {row['theirs']:.1e} | | | |")
    ratios = [row.get("ratio", 1.0) for row in results.values() if "error" not in row and "ours_temp" in row]
    if ratios:
        lines.append(f"| geometric mean of {len(ratios)} | | | {geometric_mean(ratios):.3f} | | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Gradients on an accelerator, ours and those that JAX derives.")
    parser.add_argument("--device", action="store_true", help="measure on the device that JAX finds")
    parser.add_argument("--out", type=Path, default=Path("accelerators"), help="folder (%(default)s)")
    parser.add_argument("--minutes", type=float, default=8, help="after which nothing new begins (%(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas (%(default)s)")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="(%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="the cases with one of these texts in their name")
    parser.add_argument("--batches", type=int, default=8, help="how many times the benchmark's examples (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work?")
    parser.add_argument("--expected", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.expected:
        return write_expected(options.expected, options.quick)
    if not options.device:
        parser.error("--device: expected; what is compiled for devices that are not here is not measured yet")
    options.dtypes = options.dtypes.split(",")
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--parts: unknown {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    options.end = begin + 60 * options.minutes
    device = jax.devices()[0]
    report: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__, "cores": CORES, "parts": {}}

    def save(name, results):
        report["parts"][name] = results
        (options.out / "device.json").write_text(json.dumps(report, indent=1))

    for name in options.parts:
        try:
            save(name, PARTS[name](options, partial(save, name)))
        except Exception as error:
            traceback.print_exc()
            report.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
    text = [f"{report['device']}, jax {report['jax']}"]
    for name, results in report["parts"].items():
        text.append(f"## {name}\n\n" + (results["tail"] if name == "tests" else table(results)))
    (options.out / "device.md").write_text("\n\n".join(text))
    (options.out / "device.json").write_text(json.dumps(report, indent=1))
    return bool(report.get("failed"))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code or 0)  # compilations that came too late would be waited for
