"""The cases, by what the rules are for. Importing this registers all of them."""

from foreign_rules.cases import attention, functions, kernels, patterns, quantized, solvers, training

__all__ = ["attention", "functions", "kernels", "patterns", "quantized", "solvers", "training"]
