"""Whole models, each a function that returns a `Layer`."""

from jaxcnn.nn.models.audio import audio_cnn
from jaxcnn.nn.models.autoencoder import autoencoder
from jaxcnn.nn.models.classic import digits_cnn, lenet, vgg
from jaxcnn.nn.models.convnext import convnext
from jaxcnn.nn.models.mobilenet import mobilenet_v1, mobilenet_v2
from jaxcnn.nn.models.plain import plain_cnn
from jaxcnn.nn.models.resnet import resnet, resnet_cifar, resnext
from jaxcnn.nn.models.unet import unet, unet_3d
from jaxcnn.nn.models.voxnet import voxnet

__all__ = [
    "audio_cnn",
    "autoencoder",
    "convnext",
    "digits_cnn",
    "lenet",
    "mobilenet_v1",
    "mobilenet_v2",
    "plain_cnn",
    "resnet",
    "resnet_cifar",
    "resnext",
    "unet",
    "unet_3d",
    "vgg",
    "voxnet",
]
