"""The cases, by what the rules are for. Importing this registers all of them."""

from foreign_rules.cases import attention, domains, functions, kernels, patterns, physics, quantized, solvers, training

__all__ = ["attention", "domains", "functions", "kernels", "patterns", "physics", "quantized", "solvers", "training"]
