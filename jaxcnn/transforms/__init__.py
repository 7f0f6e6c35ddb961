"""Transforms of functions: `jit` compiles one, `explicit` puts our rules into it, `derived` takes all rules out."""

from jaxcnn.transforms.compilation import jit
from jaxcnn.transforms.derived import derived
from jaxcnn.transforms.explicit import explicit, explicit_report
from jaxcnn.transforms.report import ExplicitReport, Operation

__all__ = ["ExplicitReport", "Operation", "derived", "explicit", "explicit_report", "jit"]
