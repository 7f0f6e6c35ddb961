"""The models have the published numbers of parameters, keep a step's gradient finite, and name what does not fit."""

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import QUICK_TO_COMPILE
from jax import export

import jaxcnn as jc
from jaxcnn import nn

KEY = jax.random.key(0, impl="rbg")  # compiles four times as fast as the default
IMAGENET, CIFAR = (1, 224, 224, 3), (1, 32, 32, 3)

# model, input shape, how many parameters it has, and who says so
PUBLISHED = {
    "LeNet-5": (nn.lenet(), (1, 28, 28, 1), 61_706),  # d2l.ai and many others
    "VGG-11": (nn.vgg(11), IMAGENET, 132_863_336),  # torchvision, and the next
    "VGG-16": (nn.vgg(16), IMAGENET, 138_357_544),
    "VGG-16 with batch norm": (nn.vgg(16, batch_norm=True), IMAGENET, 138_365_992),
    "VGG-19": (nn.vgg(19), IMAGENET, 143_667_240),
    "ResNet-18": (nn.resnet(18), IMAGENET, 11_689_512),
    "ResNet-34": (nn.resnet(34), IMAGENET, 21_797_672),
    "ResNet-50": (nn.resnet(50), IMAGENET, 25_557_032),
    "ResNet-152": (nn.resnet(152), IMAGENET, 60_192_808),
    "ResNeXt-50 32x4d": (nn.resnext(50), IMAGENET, 25_028_904),
    "ResNeXt-101 32x8d": (nn.resnext(101, group_width=8), IMAGENET, 88_791_336),
    "MobileNetV2": (nn.mobilenet_v2(), IMAGENET, 3_504_872),
    "ConvNeXt tiny": (nn.convnext(), IMAGENET, 28_589_128),
    "MobileNet": (nn.mobilenet_v1(), IMAGENET, 4_231_976),  # Keras
    "ResNet-20": (nn.resnet_cifar(20), CIFAR, 269_722),  # the paper rounds: 0.27 and 0.85 million
    "ResNet-56": (nn.resnet_cifar(56), CIFAR, 853_018),
    "VoxNet": (nn.voxnet(), (1, 32, 32, 32, 1), 921_736),  # the paper
    "U-Net": (nn.unet(), (1, 32, 48, 1), 31_030_658),  # quoted everywhere for the network of the paper
    "3-D U-Net": (nn.unet_3d(batch_norm=False), (1, 8, 16, 8, 3), 19_069_955),  # the paper, which counts no batch norms
}
# what the docstrings say: of M3 to M18 the paper gives 0.2, 0.5, 1.8 and 3.7 million
OURS = {
    "VGG-16 for CIFAR": (nn.vgg(16, 10, batch_norm=True, cifar=True), CIFAR, 14_724_042),
    "M3": (nn.audio_cnn(3), (1, 32000, 1), 220_682),
    "M5": (nn.audio_cnn(5), (1, 32000, 1), 558_090),
    "M11": (nn.audio_cnn(11), (1, 32000, 1), 1_784_202),
    "M18": (nn.audio_cnn(18), (1, 32000, 1), 3_679_882),
    "3-D U-Net with batch norm": (nn.unet_3d(), (1, 8, 16, 8, 3), 19_072_291),
    "autoencoder": (nn.autoencoder(), (1, 28, 28, 1), 17_513),
    "plain": (nn.plain_cnn(), (1, 28, 28, 1), 131_690),
    "ResNet-18 for CIFAR": (nn.resnet(18, 10, cifar=True), CIFAR, 11_173_962),
}
CASES = PUBLISHED | OURS


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_as_many_as_published(case):
    model, input_shape, count = CASES[case]
    params, _ = jax.eval_shape(lambda: model.init(KEY, input_shape))
    assert nn.count_parameters(params) == count


def test_unets_without_padding_crop_as_published():
    flat, deep = nn.unet(width=1, padding="VALID"), nn.unet_3d(width=1, padding="VALID")
    assert nn.output_shape(flat, (1, 572, 572, 1)) == (1, 388, 388, 2)
    assert nn.output_shape(deep, (1, 132, 132, 116, 3)) == (1, 44, 44, 28, 3)


TINY = {
    "lenet": (nn.lenet(3, width=3), (4, 28, 28, 1)),
    "vgg": (nn.vgg(11, 3, width=4, cifar=True, batch_norm=True), (4, 32, 32, 3)),
    "resnet, resnext": (nn.resnext(50, 3, groups=2, group_width=1, width=2, cifar=True), (2, 16, 16, 3)),
    "resnet_cifar": (nn.resnet_cifar(8, 3, width=2), (4, 8, 8, 3)),
    "mobilenet_v1": (nn.mobilenet_v1(3, alpha=1 / 8), (4, 64, 64, 3)),
    "mobilenet_v2": (nn.mobilenet_v2(3, alpha=0.1), (4, 64, 64, 3)),
    "convnext": (nn.convnext(3, blocks=(1, 1), width=2), (2, 8, 8, 3)),
    "audio_cnn": (nn.audio_cnn(5, 3, width=2), (2, 1024, 1)),
    "voxnet": (nn.voxnet(3, width=2), (2, 16, 16, 16, 1)),
    "unet": (nn.unet(2, depth=2, width=2), (2, 8, 4, 1)),
    "unet_3d": (nn.unet_3d(2, depth=1, width=2), (2, 4, 2, 4, 1)),
    "autoencoder": (nn.autoencoder(width=2), (2, 8, 4, 1)),
    "plain_cnn": (nn.plain_cnn(3, stem=(2, 4, 2, 1), stages=((2,), (3, 2)), with_max=True), (2, 13, 1)),
}


# Of the deepest models the first blocks of each kind. What comes behind is made by the same calls.
SHORT = {
    "resnet, resnext": (
        partial(nn.resnext, 50, 3, groups=2, group_width=1, width=2, cifar=True),
        ("resnet", "_BOTTLENECK", {50: (1, 2)}),
    ),
    "mobilenet_v2": (partial(nn.mobilenet_v2, 3, alpha=0.1), ("mobilenet", "_V2", ((1, 16, 1, 1), (6, 24, 2, 2)))),
}


@pytest.mark.parametrize("case", [case for case in TINY if case != "mobilenet_v1"])  # of the layers of mobilenet_v2
def test_every_parameter_gets_a_finite_gradient(case, monkeypatch):
    model, input_shape = TINY[case]
    if case in SHORT:
        make, (module, name, blocks) = SHORT[case]
        monkeypatch.setattr(importlib.import_module(f"jaxcnn.nn.models.{module}"), name, blocks)
        model = make()
    params, state = drawn(model, input_shape)

    @partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    @partial(jax.value_and_grad, has_aux=True)
    def first_gradient(params, x):
        y, new_state = model.apply(params, state, x, train=True, key=KEY)
        return jnp.mean(jnp.square(y - 1)), new_state

    x = np.random.default_rng(1).normal(size=input_shape).astype(np.float32)
    (value, new_state), dparams = first_gradient(params, x)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, new_state, dparams)))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(dparams))


def test_vgg_has_the_gradients_of_the_published_order():
    """It takes the maxima before relu, which has fewer entries then. Parameters and values are the same as well."""
    model, input_shape = nn.vgg(11, 3, width=1, cifar=True), (1, 32, 32, 3)
    published, channels = [], 1
    for count in (1, 1, 2, 2, 2):
        published += [*count * [nn.conv(channels, 3, padding=1), jc.relu], nn.max_pool(2)]
        channels = min(2 * channels, 8)
    published = nn.sequential(*published, jc.global_mean_pool, nn.dense(3))
    params, _ = drawn(model, input_shape)
    x = np.random.default_rng(1).normal(size=input_shape).astype(np.float32)

    def gradient(model):
        return jax.value_and_grad(lambda params: jnp.sum(jnp.square(model.apply(params, {}, x)[0])))(params)

    @partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    def both():
        return gradient(model), gradient(published)

    ours, expected = both()
    assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, expected)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), ours, expected)


@pytest.mark.parametrize("case", ["lenet", "vgg", "mobilenet_v1", "convnext", "audio_cnn", "unet_3d", "autoencoder"])
def test_inference_exports_for_a_batch_of_any_size(case):
    model, (_, *image) = TINY[case]
    params, state = jax.eval_shape(lambda: model.init(KEY, (1, *image)))
    (batch,) = export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((batch, *image), np.float32)
    exported = export.export(jax.jit(lambda *args: model.apply(*args)[0]), platforms=("cpu", "cuda"))(params, state, x)
    assert exported.out_avals[0].shape == (batch, *nn.output_shape(model, (1, *image))[1:])


def drawn(model, input_shape):
    """Parameters and state as He et al. draw them, by NumPy, which has nothing to compile."""
    rng = np.random.default_rng(0)

    def leaf(abstract):
        shape = abstract.shape
        if len(shape) == 1:
            return rng.uniform(0.5, 1.0, shape).astype(np.float32)
        return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)

    return jax.tree.map(leaf, jax.eval_shape(lambda: model.init(KEY, input_shape)))


@pytest.mark.parametrize("zero_init", [False, True])
def test_a_block_may_start_as_its_shortcut(zero_init):
    model = nn.resnet(18, 3, width=2, zero_init=zero_init)
    body = jax.jit(lambda: model.init(KEY, (1, 32, 32, 3))[0]["layer2"]["0"]["body"])()
    np.testing.assert_array_equal(body["bn1"]["gamma"], 1)
    np.testing.assert_array_equal(body["bn2"]["gamma"], 0 if zero_init else 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.vgg(12), ValueError, "nn.vgg: depth must be 11, 13, 16 or 19, got 12"),
        (lambda: nn.resnet(20), ValueError, "nn.resnet: depth must be 18, 34, 50, 101 or 152, got 20"),
        (lambda: nn.resnext(18), ValueError, "nn.resnext: depth must be 50, 101 or 152, got 18"),
        (lambda: nn.resnet_cifar(18), ValueError, r"nn.resnet_cifar: depth must be 6n \+ 2, got 18"),
        (lambda: nn.audio_cnn(7), ValueError, "nn.audio_cnn: depth must be 3, 5, 11 or 18, got 7"),
        (lambda: nn.convnext(width=0), ValueError, "nn.convnext: width must be an int of at least 1, got 0"),
        (
            lambda: nn.unet(padding="CAUSAL"),
            ValueError,
            "nn.unet: padding must be one of 'SAME', 'VALID', got 'CAUSAL'",
        ),
        (lambda: nn.unet_3d(depth=-1), ValueError, "nn.unet_3d: depth must be an int of at least 0, got -1"),
        (
            lambda: nn.output_shape(nn.unet(depth=2, width=2), (1, 8, 6, 1)),
            ValueError,
            r"nn.unet: input_shape must be \(N, \*S, C\) with S a multiple of 2\^depth = 4, got \(1, 8, 6, 1\)",
        ),
        (lambda: nn.resnet("18"), TypeError, "nn.resnet: depth must be 18, 34, 50, 101 or 152, got str '18'"),
        (lambda: nn.resnet([18]), TypeError, r"nn.resnet: depth must be 18, 34, 50, 101 or 152, got list \[18\]"),
        (lambda: nn.vgg(11, batch_norm=3), TypeError, "nn.vgg: batch_norm must be True or False, got int 3"),
        (lambda: nn.vgg(11, cifar="no"), TypeError, "nn.vgg: cifar must be True or False, got str 'no'"),
        (lambda: nn.resnet(18, cifar=1), TypeError, "nn.resnet: cifar must be True or False, got int 1"),
        (lambda: nn.resnet(18, zero_init="yes"), TypeError, "nn.resnet: zero_init must be True or False, got str"),
        (lambda: nn.resnext(cifar=1), TypeError, "nn.resnext: cifar must be True or False, got int 1"),
        (lambda: nn.resnext(zero_init=1), TypeError, "nn.resnext: zero_init must be True or False, got int 1"),
        (lambda: nn.unet(batch_norm=1), TypeError, "nn.unet: batch_norm must be True or False, got int 1"),
        (lambda: nn.convnext(rate="0.1"), TypeError, "nn.convnext: rate must be a number from 0 to 1, got str '0.1'"),
        (lambda: nn.convnext(rate=2), ValueError, "nn.convnext: rate must be a number from 0 to 1, got 2"),
        (lambda: nn.convnext(blocks=3), TypeError, "nn.convnext: blocks must be a tuple of one int or more, got int 3"),
        (
            lambda: nn.convnext(blocks=()),
            ValueError,
            r"nn.convnext: blocks must be a tuple of one int or more, got \(\)",
        ),
        (lambda: nn.autoencoder(code=0), ValueError, "nn.autoencoder: code must be an int of at least 1, got 0"),
        (
            lambda: nn.output_shape(nn.autoencoder(depth=3), (1, 28, 28, 1)),
            ValueError,
            r"nn.autoencoder: input_shape must be \(N, \*S, 1\) with S a multiple of 2\^depth = 8, got \(1, 28, 28,",
        ),
        (
            lambda: nn.output_shape(nn.autoencoder(), (1, 28, 28, 3)),
            ValueError,
            r"nn.autoencoder: input_shape must be \(N, \*S, 1\) with S a multiple of 2\^depth = 4, got \(1, 28, 28,",
        ),
        (
            lambda: nn.autoencoder(depth=3).apply({}, {}, jnp.ones((1, 8, 12, 1), jnp.float32)),
            ValueError,
            r"nn.autoencoder: x must be \[N, \*S, 1\] with S a multiple of 2\^depth = 8, got \[1, 8, 12, 1\]",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match="^" + message):
        call()
