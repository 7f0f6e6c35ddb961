"""A folder to run commands in, and a model that they train quickly."""

import pytest
from jax.nn.initializers import zeros

from jaxcnn import nn


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_model(monkeypatch):
    """One that compiles quickly in place of the digits' own."""
    monkeypatch.setattr(
        nn, "digits_cnn", lambda classes: nn.sequential(nn.flatten(), nn.dense(classes, initializer=zeros))
    )
