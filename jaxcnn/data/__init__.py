"""Data sets, their files, input normalisation and batches."""

from jaxcnn.data.datasets import NAMES, Dataset, load
from jaxcnn.data.errors import DataError
from jaxcnn.data.folders import read_folder
from jaxcnn.data.preprocessing import batches, fit_standardization, standardize
from jaxcnn.data.readers.cifar import read_cifar10
from jaxcnn.data.readers.idx import read_idx
from jaxcnn.data.readers.image import read_image
from jaxcnn.data.readers.nifti import read_nifti
from jaxcnn.data.readers.npz import read_npz
from jaxcnn.data.readers.wav import read_wav

__all__ = [
    "NAMES",
    "DataError",
    "Dataset",
    "batches",
    "fit_standardization",
    "load",
    "read_cifar10",
    "read_folder",
    "read_idx",
    "read_image",
    "read_nifti",
    "read_npz",
    "read_wav",
    "standardize",
]
