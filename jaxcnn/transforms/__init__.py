"""Transforms of functions: `jit` compiles one, `explicit` puts our rules into it, `derived` takes all rules out.

`convolutions_saveable` tells `jax.checkpoint` what to keep.
"""

from jaxcnn.contract.kept import convolutions_saveable
from jaxcnn.transforms.compilation import jit
from jaxcnn.transforms.derived import derived
from jaxcnn.transforms.explicit import explicit, explicit_report
from jaxcnn.transforms.report import ExplicitReport, Operation

__all__ = ["ExplicitReport", "Operation", "convolutions_saveable", "derived", "explicit", "explicit_report", "jit"]
