"""Weights of PyTorch: names, layouts, and the outputs that torchvision computes with the same weights."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE
from safetensors.numpy import save_file

from jaxcnn import nn

# Blocks of each stage, and the groups and their width in a bottleneck; then the logits of torchvision 0.29.2 on PyTorch
# 2.13.0 in float64, for the weights and images below.
RESNET18 = ((2, 2, 2, 2), None)
RESNEXT50 = ((3, 4, 6, 3), (32, 4))
LOGITS = {
    "resnet18": (
        nn.resnet(18, 10),
        RESNET18,
        [
            [-4.7, -2.515, -12.3346, -1.5095, -6.7644, 5.2422, 1.693, -16.6607, 3.6216, 9.2855],
            [-2.2255, -0.882, -10.2841, -0.5167, -5.2747, 8.1744, 0.4488, -15.3158, 2.9078, 8.8669],
        ],
    ),
    "resnext50_32x4d": (
        nn.resnext(50, 10),
        RESNEXT50,
        [
            [95.493, 11.5176, 34.6015, 21.6183, -41.2173, -90.4743, 9.5123, 126.4976, 10.9073, 10.2464],
            [87.0234, 13.1392, 32.3687, 20.6876, -44.9431, -90.8107, 10.5218, 125.8583, 10.2751, 14.1383],
        ],
    ),
}


def shapes_in_torchvision(blocks, bottleneck):
    """The state_dict of a ResNet or ResNeXt with 10 classes, names to shapes."""
    shapes = {}

    def conv_and_norm(conv, norm, out, channels, size):
        shapes[f"{conv}.weight"] = (out, channels, size, size)
        shapes.update({f"{norm}.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{norm}.num_batches_tracked"] = ()

    conv_and_norm("conv1", "bn1", 64, 3, 7)
    channels = 64
    for stage, count in enumerate(blocks):
        for block in range(count):
            planes, prefix = 64 * 2**stage, f"layer{stage + 1}.{block}"
            convolutions = [(planes, channels, 3), (planes, planes, 3)]
            if bottleneck:
                groups, group_width = bottleneck
                wide = groups * group_width * 2**stage
                convolutions = [(wide, channels, 1), (wide, wide // groups, 3), (4 * planes, wide, 1)]
            for i, convolution in enumerate(convolutions, start=1):
                conv_and_norm(f"{prefix}.conv{i}", f"{prefix}.bn{i}", *convolution)
            out = convolutions[-1][0]
            if block == 0 and (stage > 0 or out != channels):
                conv_and_norm(f"{prefix}.downsample.0", f"{prefix}.downsample.1", out, channels, 1)
            channels = out
    return {**shapes, "fc.weight": (10, channels), "fc.bias": (10,)}


def state_dict(blocks, bottleneck):
    rng = np.random.default_rng(0)

    def drawn(name, shape):
        if not shape:
            return np.array(7)
        if len(shape) > 1:
            return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        if name.endswith(("bias", "running_mean")):
            return rng.standard_normal(shape, np.float32) / 8
        return rng.random(shape, np.float32) / 2 + np.float32(0.5)

    return {name: drawn(name, shape) for name, shape in shapes_in_torchvision(blocks, bottleneck).items()}


def images():
    return np.random.default_rng(1).standard_normal((2, 45, 38, 3), np.float32)


@pytest.mark.parametrize("name", LOGITS)
def test_imported_weights_give_the_logits_of_torchvision(name, tmp_path):
    model, architecture, logits = LOGITS[name]
    source = weights = state_dict(*architecture)
    if name == "resnet18":
        source = tmp_path / "weights.safetensors"
        save_file(weights, source)
    params, state = nn.load_state_dict(model, (1, 32, 32, 3), source)
    apply = jax.jit(lambda *args: model.apply(*args)[0], compiler_options=QUICK_TO_COMPILE)
    np.testing.assert_allclose(apply(params, state, images()), logits, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", LOGITS)
def test_the_stored_logits_are_those_of_the_torchvision_that_is_installed(name):
    torch = pytest.importorskip("torch", reason="pip install torch torchvision")
    models = pytest.importorskip("torchvision.models", reason="pip install torch torchvision")
    _, architecture, logits = LOGITS[name]
    model = getattr(models, name)(num_classes=10).eval()
    model.load_state_dict({key: torch.tensor(array) for key, array in state_dict(*architecture).items()})
    with torch.no_grad():
        y = model.double()(torch.tensor(images()).permute(0, 3, 1, 2).double())
    np.testing.assert_allclose(y.numpy(), logits, rtol=1e-4, atol=1e-3)


def test_what_does_not_fit_is_listed():
    model = nn.sequential(nn.named("0", nn.conv(4, 3)), nn.flatten(), nn.named("fc", nn.dense(2)))
    weights = {"0.weight": np.ones((4, 1, 3, 3)), "fc.weight": np.ones((36, 2)), "bn1.weight": np.ones(4)}
    with pytest.raises(
        ValueError,
        match=r"^nn.load_state_dict: source must be the weights of this model, got no 0.bias, no fc.bias, bn1.weight "
        r"beyond them, fc.weight \[36, 2\] rather than \[2, 36\]$",
    ):
        nn.load_state_dict(model, (1, 3, 3, 1), weights)


class Unreadable:
    """As a tensor that requires grad."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({1: np.ones(1)}, "arrays by name, got a name int 1"),
        (
            {"bias": Unreadable()},
            "arrays that NumPy can read, got bias: Can't call numpy.. on Tensor that requires grad",
        ),
        ({"bias": np.array(["a"])}, r"arrays of real numbers, got bias <U1\[1\]"),
        ({"bias": np.array([1j])}, r"arrays of real numbers, got bias complex128\[1\]"),
    ],
)
def test_what_is_no_array_of_numbers(weights, message):
    with pytest.raises(TypeError, match=f"^nn.load_state_dict: source must be {message}"):
        nn.load_state_dict(nn.dense(1), (1, 2), weights)


def test_files_that_hold_no_weights(tmp_path):
    (tmp_path / "corrupt.safetensors").write_bytes(b"these are no tensors at all")
    with pytest.raises(ValueError, match=r"^nn.load_state_dict: source must be a safetensors file, got .*corrupt.safe"):
        nn.load_state_dict(nn.dense(1), (1, 2), tmp_path / "corrupt.safetensors")
    with pytest.raises(ValueError, match=r"^nn.load_state_dict: source must be a safetensors file, got the folder "):
        nn.load_state_dict(nn.dense(1), (1, 2), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing.safetensors"):
        nn.load_state_dict(nn.dense(1), (1, 2), tmp_path / "missing.safetensors")


def test_tensors_of_bfloat16_in_a_file(tmp_path):
    save_file({"weight": np.ones((1, 2), jnp.bfloat16), "bias": np.ones(1, jnp.bfloat16)}, tmp_path / "half")
    params, _ = nn.load_state_dict(nn.dense(1), (1, 2), tmp_path / "half")
    np.testing.assert_array_equal(params["w"], np.ones((2, 1), np.float32))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"])
def test_tensors_of_8_bits_in_a_file(tmp_path, dtype):
    save_file({"weight": np.ones((1, 2), dtype), "bias": np.ones(1, np.float32)}, tmp_path / "short")
    with pytest.raises(TypeError, match=rf"^nn.load_state_dict: source must be of dtypes that .*short with {dtype}$"):
        nn.load_state_dict(nn.dense(1), (1, 2), tmp_path / "short")


def test_bad_arguments(monkeypatch):
    with pytest.raises(TypeError, match=r"^nn.load_state_dict: source must be a path or a dict, got int 3"):
        nn.load_state_dict(nn.dense(1), (1, 2), 3)
    with pytest.raises(TypeError, match=r"^nn.load_state_dict: model must be a Layer or a function of an array"):
        nn.load_state_dict("resnet", (1, 2), {})
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'pip install "jaxcnn\[train\]"'):
        nn.load_state_dict(nn.dense(1), (1, 2), "weights.safetensors")
