"""Data sets and their files, preprocessing and cleaning, augmentation, and batches."""

from jaxcnn.data import augment
from jaxcnn.data.batching import Batches, batches
from jaxcnn.data.datasets import NAMES, Dataset, load
from jaxcnn.data.errors import DataError
from jaxcnn.data.folders import read_folder
from jaxcnn.data.inspection import clean, inspect
from jaxcnn.data.preprocessing import class_weights, fit_standardization, pad_to, standardize
from jaxcnn.data.readers.cifar import read_cifar10
from jaxcnn.data.readers.idx import read_idx
from jaxcnn.data.readers.image import read_image
from jaxcnn.data.readers.nifti import read_nifti
from jaxcnn.data.readers.npz import read_npz
from jaxcnn.data.readers.wav import read_wav
from jaxcnn.data.report import Finding, Report, Summary
from jaxcnn.data.rows import Rows, taken

__all__ = [
    "NAMES",
    "Batches",
    "DataError",
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
    "read_cifar10",
    "read_folder",
    "read_idx",
    "read_image",
    "read_nifti",
    "read_npz",
    "read_wav",
    "standardize",
    "taken",
]
