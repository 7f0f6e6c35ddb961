"""Whether a rule gives the same under each of JAX's transforms."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.check.difference import difference
from jaxcnn.check.examination import Examination
from jaxcnn.check.programs import Arrays, Run
from jaxcnn.check.report import Comparison
from jaxcnn.check.traces import float64_on_cpu
from jaxcnn.check.widening import widened
from jaxcnn.check.wording import one_line

Gradients = Callable[[Sequence[Any], Sequence[Any]], Any]


def consistency(examination: Examination) -> tuple[list[Comparison], list[str]]:
    """The rule under each transform against the rule under plain `jit`, and notes on what was not looked at.

    Each is traced in the dtypes of the arguments, and evaluated in float64. `vmap` and `scan` run over two points.
    """
    f, rows, notes = examination.case.f, [], []
    double, elsewhere = examination.double_run, examination.elsewhere_run
    one, both = [double], [double, elsewhere]
    ways: dict[str, tuple[Gradients, list[Run]]] = {
        "jit": (_pullback(jax.jit(f)), one),
        "remat": (_pullback(jax.checkpoint(f)), one),
        "vmap": (jax.vmap(_pullback(f)), both),
        "grad of vmap": (_pullback(jax.vmap(f)), both),
        "scan": (_scan_pullback(f), both),
    }
    mesh, why = _mesh(examination)
    if mesh is None:
        notes.append(f"not looked at: sharded, as {why}")
    else:
        ways[f"sharded over {mesh.size} devices"] = (_pullback(f), one)
    rows.append(_step_by_step(examination))
    for name, (gradients, runs) in ways.items():
        split = mesh if name.startswith("sharded") else None
        try:
            got = _evaluated(examination, gradients, runs, split)
        except Exception as error:
            rows.append(Comparison(f"under {name}", one_line(error)))
        else:
            rows.append(_compare(f"under {name}", examination, got, runs))
    return rows, notes


def _step_by_step(examination: Examination) -> Comparison:
    """The rule step by step, in the dtype of the arguments."""
    name, case = "without jit", examination.case
    run = examination.own_run or examination.double_run
    dy = [jnp.asarray(d).astype(y.dtype) for d, y in zip(run.dy, examination.traces.outputs, strict=True)]
    try:
        got = _pullback(case.f)(list(map(jnp.asarray, case.floats)), dy)
    except Exception as error:
        return Comparison(name, one_line(error))
    return _compare(name, examination, list(map(np.asarray, got)), [run])


def _evaluated(examination: Examination, gradients: Gradients, runs: Sequence[Run], mesh: Any) -> Arrays:
    """The gradients in float64 at the points of some runs; split over a mesh, if there is one."""
    points = [_stacked(leaves) for leaves in zip(*([*run.args, *run.dy] for run in runs), strict=True)]
    dtypes = [*examination.dtypes, *(y.dtype for y in examination.traces.outputs)]
    own = [jax.ShapeDtypeStruct(a.shape, dtype) for a, dtype in zip(points, dtypes, strict=True)]
    count = len(examination.dtypes)
    closed = jax.make_jaxpr(gradients)(own[:count], own[count:])
    with float64_on_cpu():
        if mesh is not None:
            points = [_placed(a, mesh, examination.batch) for a in points]
        return list(map(np.asarray, jax.jit(widened(closed))(*points)))


def _stacked(points: Sequence[Any]) -> np.ndarray:
    """The array of each point in float64, along a new axis; without that axis if there is one point."""
    wide = [np.asarray(point, np.float64) for point in points]
    return np.stack(wide) if len(wide) > 1 else wide[0]


def _pullback(f: Callable[..., Any]) -> Gradients:
    """(args, dy) -> the gradients of ⟨dy, f⟩."""
    return lambda args, dy: jax.vjp(f, *args)[1](list(dy))


def _scan_pullback(f: Callable[..., Any]) -> Gradients:
    """The gradient of a scan over the points."""

    def scanned(*args: Any) -> Any:
        return jax.lax.scan(lambda carry, point: (carry, f(*point)), None, args)[1]

    return _pullback(scanned)


def _mesh(examination: Examination) -> tuple[Any, str]:
    """A mesh over which the first axis of an argument can be split, or None and the reason."""
    devices, batch = jax.devices("cpu"), examination.batch
    if len(devices) == 1:
        return None, "there is one CPU device only (jax_num_cpu_devices makes more)"
    if not any(_is_split(a, batch) for a in examination.double_run.args):
        return None, "no argument has the batch of the output as its first axis"
    count = max((n for n in range(2, len(devices) + 1) if batch and batch % n == 0), default=0)
    if not count:
        return None, f"a batch of {batch} cannot be split over {len(devices)} devices"
    return jax.make_mesh((count,), ("batch",), axis_types=(AxisType.Auto,), devices=devices[:count]), ""


def _is_split(a: Any, batch: int | None) -> bool:
    """Whether axis 0 of an array is the batch."""
    return np.ndim(a) > 0 and np.shape(a)[0] == batch


def _placed(a: np.ndarray, mesh: Any, batch: int | None) -> Any:
    """An array with its batch split over the devices of the mesh."""
    return jax.device_put(jnp.asarray(a), NamedSharding(mesh, P("batch") if _is_split(a, batch) else P()))


def _compare(name: str, examination: Examination, got: Arrays, runs: Sequence[Any]) -> Comparison:
    """The comparison of the first gradient that is wrong at one of the points.

    If none is wrong, it is one comparison, which says that the gradients are right.
    """
    count, last = examination.output_count, None
    for i, g in enumerate(got):
        for k, run in enumerate(runs):
            plain = examination.differences(run, run.got)[count + i]
            row = difference(g[k] if len(runs) > 1 else g, run.got[count + i], plain.tolerance)
            if row.is_wrong:
                return row.comparison(f"{examination.names[count + i]} {name}", examination.batch)
            last = row
    return Comparison(name, None, "as without it", seen=last.comparison("").seen if last else "")
