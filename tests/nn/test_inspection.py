"""The summary table, and what else is known of a model without computing it."""

import io

import jax
import jax.numpy as jnp
import pytest

import jaxcnn
from jaxcnn import nn

TABLE = """\
path                        output          parameters             number
stem                        [2, 28, 28, 8]  b [8], w [3, 3, 1, 8]      80
residual1/body/relu1        [2, 28, 28, 8]
residual1/body/conv1        [2, 28, 28, 4]  w [1, 1, 8, 4]             32
residual1/body/batch_norm1  [2, 28, 28, 4]  beta [4], gamma [4]         8
residual1/shortcut          [2, 28, 28, 4]  b [4], w [1, 1, 8, 4]      36
flatten1                    [2, 3136]
dense1                      [2, 10]         b [10], w [3136, 10]   31,370
31,526 parameters, and 8 numbers of state that is not trained
"""


def model():
    body = nn.sequential(jaxcnn.relu, nn.conv(4, 1, bias=False), nn.batch_norm())
    block = nn.residual(body, shortcut=nn.conv(4, 1))
    return nn.sequential(nn.named("stem", nn.conv(8, 3)), block, nn.flatten(), nn.dense(10))


def test_summary_has_a_row_for_every_layer():
    file = io.StringIO()
    nn.summary(model(), (2, 28, 28, 1), file=file)
    assert file.getvalue() == TABLE


def test_summary_of_a_layer_around_others_keeps_their_names(capsys):
    inner = nn.sequential(nn.conv(4, 3, bias=False), nn.residual(nn.prelu()))
    nn.summary(nn.Layer(inner.init, inner.apply, "around"), (1, 8, 8, 3))
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split("  ")[:3] == ["around", "[1, 8, 8, 4]", "conv1/w [3, 3, 3, 4], residual1/body/a [4]"]


def test_summary_prints_on_stdout(capsys):
    nn.summary(nn.dense(10), (2, 4))
    assert capsys.readouterr().out.splitlines() == [
        "path   output   parameters         number",
        "dense  [2, 10]  b [10], w [4, 10]      50",
        "50 parameters",
    ]


def test_summary_computes_nothing():
    """Weights of 40 GB are no obstacle."""
    file = io.StringIO()
    nn.summary(nn.sequential(nn.dense(100_000)), (1, 100_000), file=file)
    assert "10,000,100,000 parameters" in file.getvalue()


def test_output_shape_of_layers_and_functions():
    assert nn.output_shape(model(), (5, 28, 28, 1)) == (5, 10)
    assert nn.output_shape(jaxcnn.relu, (5, 3)) == (5, 3)
    assert nn.output_shape(nn.digits_cnn(classes=7), (5, 8, 8, 1)) == (5, 7)
    with pytest.raises(
        TypeError, match=r"^nn.output_shape: input_shape must be an int of at least 0, got NoneType None"
    ):
        nn.output_shape(model(), (None, 28, 28, 1))
    with pytest.raises(
        TypeError, match=r"^nn.output_shape: model must be a Layer or a function of an array, got int 3"
    ):
        nn.output_shape(3, (1, 2))


def test_count_parameters():
    params, _ = nn.dense(3).init(jax.random.key(0), (1, 2))
    assert nn.count_parameters({"a": params, "b": jnp.ones(())}) == 10
    assert nn.count_parameters({}) == 0
    with pytest.raises(TypeError, match=r"^nn.count_parameters: params must be a tree of arrays, got int 3"):
        nn.count_parameters({"w": 3})
