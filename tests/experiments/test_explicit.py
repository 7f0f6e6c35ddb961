"""The experiment with models of others runs, and they compute the same before and after. Nothing is timed."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / "experiments" / "explicit.py"


def test_quick_run():
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, SCRIPT, "--quick"]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quick})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    machine, what, _, *table = ran.stdout.splitlines()
    assert all(name in machine for name in ("cores", "jax", "jaxlib", "flax", "equinox"))
    assert "1 interleaved rounds" in what
    assert [row.split(" | ")[0] for row in table[2:]] == [
        "| ResNet, flax.linen",
        "| MobileNet, flax.linen",
        "| CNN, Equinox",
    ]
    assert all(float(row.strip(" |").split(" | ")[-1]) > 0 for row in table[2:])
