"""The gradient checker, for any function with a custom VJP."""

from jaxcnn.check.gradients import gradients
from jaxcnn.check.mutants import Mutants, mutants
from jaxcnn.check.remainder import adjoint, taylor
from jaxcnn.check.report import Report

__all__ = ["Mutants", "Report", "adjoint", "gradients", "mutants", "taylor"]
