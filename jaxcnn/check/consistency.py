"""Does a rule give the same under each of JAX's transforms?"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.check.examination import Examination
from jaxcnn.check.programs import Arrays, in_double
from jaxcnn.check.report import Comparison, difference, in_one_line

Gradients = Callable[[Sequence[Any], Sequence[Any]], Any]


def consistency(examination: Examination) -> tuple[list[Comparison], list[str]]:
    """One comparison for each transform with the rule under plain `jit`, and what was not looked at.

    Under `vmap` and `scan` the point is one of two.
    """
    f, rows, notes = examination.f, [], []
    base, other = examination.base, examination.other
    one, both = [base], [base, other]
    ways: dict[str, tuple[Gradients, list[Any]]] = {
        "without jit": (_pullback(f), one),
        "jit": (_pullback(jax.jit(f)), one),
        "remat": (jax.jit(_pullback(jax.checkpoint(f))), one),
        "vmap": (jax.jit(jax.vmap(_pullback(f))), both),
        "grad of vmap": (jax.jit(_pullback(jax.vmap(f))), both),
        "scan": (jax.jit(_in_scan(f)), both),
    }
    with in_double():
        mesh, why = _mesh(examination)
        if mesh is None:
            notes.append(f"not looked at: sharded, as {why}")
        else:
            ways[f"sharded over {mesh.size} devices"] = (_sharded(f, mesh, examination), one)
        for name, (gradients, runs) in ways.items():
            args = [_wide(leaves, len(runs)) for leaves in zip(*(run.args for run in runs), strict=True)]
            dy = [_wide(leaves, len(runs)) for leaves in zip(*(run.dy for run in runs), strict=True)]
            dy = [d.astype(y.dtype) for d, y in zip(dy, base.program.outputs, strict=True)]
            try:
                got = list(map(np.asarray, gradients(args, dy)))
            except Exception as error:
                rows.append(Comparison(f"under {name}", in_one_line(error)))
            else:
                rows.append(_compare(f"under {name}", examination, got, runs))
    return rows, notes


def _wide(leaves: Sequence[Any], points: int) -> np.ndarray:
    wide = [np.asarray(leaf, np.float64) for leaf in leaves]
    return np.stack(wide) if points > 1 else wide[0]


def _pullback(f: Callable[..., Any]) -> Gradients:
    return lambda args, dy: jax.vjp(f, *args)[1](list(dy))


def _in_scan(f: Callable[..., Any]) -> Gradients:
    """The gradient of a scan over the points."""

    def scanned(*args: Any) -> Any:
        return jax.lax.scan(lambda carry, point: (carry, f(*point)), None, args)[1]

    return _pullback(scanned)


def _mesh(examination: Examination) -> tuple[Any, str]:
    """A mesh over which the first axis of an argument can be split, or None and the reason."""
    devices, batch = jax.devices("cpu"), examination.batch
    if len(devices) == 1:
        return None, "there is one CPU device only (jax_num_cpu_devices makes more)"
    if not any(_is_split(a, batch) for a in examination.base.args):
        return None, "no argument has the batch of the output as its first axis"
    count = max((n for n in range(2, len(devices) + 1) if batch and batch % n == 0), default=0)
    if not count:
        return None, f"a batch of {batch} cannot be split over {len(devices)} devices"
    return jax.make_mesh((count,), ("batch",), axis_types=(AxisType.Auto,), devices=devices[:count]), ""


def _is_split(a: Any, batch: int | None) -> bool:
    return np.ndim(a) > 0 and np.shape(a)[0] == batch


def _sharded(f: Callable[..., Any], mesh: Any, examination: Examination) -> Gradients:
    def placed(a: np.ndarray) -> Any:
        spec = P("batch") if _is_split(a, examination.batch) else P()
        return jax.device_put(jnp.asarray(a), NamedSharding(mesh, spec))

    return lambda args, dy: jax.jit(_pullback(f))(list(map(placed, args)), list(map(placed, dy)))


def _compare(name: str, examination: Examination, got: Arrays, runs: Sequence[Any]) -> Comparison:
    """The worst of the gradients, of all points."""
    first, worst = examination.first, None
    for i, g in enumerate(got):
        for k, run in enumerate(runs):
            plain = examination.differences(run, run.got)[first + i]
            row = difference(g[k] if len(runs) > 1 else g, run.got[first + i], plain.tolerance)
            if row.wrong.any():
                return row.comparison(f"{examination.names[first + i]} {name}", examination.batch)
            worst = row
    return Comparison(name, None, "as without it", seen=worst.comparison("").seen if worst else "")
