"""Data sets, input normalisation and batches."""

from jaxcnn.data.datasets import NAMES, Dataset, load
from jaxcnn.data.preprocessing import batches, fit_standardization, standardize

__all__ = ["NAMES", "Dataset", "batches", "fit_standardization", "load", "standardize"]
