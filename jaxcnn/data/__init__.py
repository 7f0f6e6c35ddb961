"""Data sets, preprocessing and cleaning, augmentation, and batches."""

from jaxcnn.data import augment
from jaxcnn.data.batching import Batches, batches
from jaxcnn.data.datasets import NAMES, Dataset, load
from jaxcnn.data.inspection import clean, inspect
from jaxcnn.data.preprocessing import class_weights, fit_standardization, pad_to, standardize
from jaxcnn.data.report import Finding, Report, Summary
from jaxcnn.data.rows import Rows, taken

__all__ = [
    "NAMES",
    "Batches",
    "Dataset",
    "Finding",
    "Report",
    "Rows",
    "Summary",
    "augment",
    "batches",
    "class_weights",
    "clean",
    "fit_standardization",
    "inspect",
    "load",
    "pad_to",
    "standardize",
    "taken",
]
