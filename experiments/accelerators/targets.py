"""Devices that need not be here, and how to compile for them. Nothing that is compiled for them can run here.

XLA compiles for a GPU from a description of it. Each file `NAME.txtpb` in this folder is one: the text of XLA's
`GpuTargetConfigProto`. For a TPU libtpu has the descriptions. `pip install 'jaxcnn[accelerators]'` installs both
compilers.
"""

import functools
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from accelerators.program import Program

FOLDER = Path(__file__).parent
GPUS = sorted(path.stem for path in FOLDER.glob("*.txtpb"))
TPUS = {"tpu_v5e": "v5e:2x2"}  # the smallest topology that libtpu has
TARGETS = [*GPUS, *TPUS]

# What a machine of Google tells libtpu of itself.
_ABOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # by several processes, which a TPU would not take
}


def has_compiler(target: str) -> bool:
    """Whether the compiler for a target is installed."""
    return find_spec("jax_cuda13_plugin" if target in GPUS else "libtpu") is not None


@functools.cache
def device(target: str) -> Any:
    """The target, of which nothing but its description is here."""
    if target in GPUS:
        jax.devices("cpu")  # registers the plugins
        description = (FOLDER / f"{target}.txtpb").read_text()
        topology = topologies.get_topology_desc(
            platform="cuda", topology_name=target, topology="1x1x1", target_config=description
        )
    else:
        for name, value in _ABOUT_TPU.items():
            os.environ.setdefault(name, value)
        topology = topologies.get_topology_desc(platform="tpu", topology_name=TPUS[target])
    return topology.devices[0]


def compile_for(target: str, f: Callable[..., Any], *args: Any, **options: Any) -> Program:
    """The program of `jax.jit(f)` for a target, given arrays or their types; options are XLA's."""
    place = SingleDeviceSharding(device(target))
    types = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), args)
    return Program.of(jax.jit(f).lower(*types), options)
