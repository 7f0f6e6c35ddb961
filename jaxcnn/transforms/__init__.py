"""Transforms of functions: our rules put into any function, or every custom rule taken out."""

from jaxcnn.transforms.derived import derived
from jaxcnn.transforms.explicit import explicit, explicit_report
from jaxcnn.transforms.report import ExplicitReport, Operation

__all__ = ["ExplicitReport", "Operation", "derived", "explicit", "explicit_report"]
