"""jaxcnn: its ops, with its backward pass."""

import jaxcnn
from benchmark.layers import EPS
from benchmark.peers.jax_peer import JaxPeer


class Peer(JaxPeer):
    packages = ("jaxcnn",)
    jit = staticmethod(jaxcnn.jit)

    flatten = staticmethod(jaxcnn.flatten)
    max_pool = staticmethod(jaxcnn.max_pool)
    global_mean_pool = staticmethod(jaxcnn.global_mean_pool)
    cross_entropy = staticmethod(jaxcnn.softmax_cross_entropy)
    squared_error = staticmethod(jaxcnn.mean_squared_error)

    def conv(self, x, p, layer):
        options = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}
        return jaxcnn.conv(x, p["w"], p.get("b"), **options)

    def conv_transpose(self, x, p, layer):
        return jaxcnn.conv_transpose(x, p["w"], p["b"], stride=layer.stride, padding=layer.padding)

    def batch_norm(self, x, p):
        return jaxcnn.batch_norm(x, p["gamma"], p["beta"], eps=EPS)[0]

    def dense(self, x, p, _):
        return jaxcnn.dense(x, p["w"], p["b"])

    def relu(self, x, layer):
        return jaxcnn.relu(x, keeps=layer.keeps)

    def apply(self, operation, x, w):
        options = {"stride": operation.stride, "padding": operation.padding}
        match operation.kind:
            case "conv":
                return jaxcnn.conv(x, w, dilation=operation.dilation, groups=operation.groups, **options)
            case "conv_transpose":
                return jaxcnn.conv_transpose(x, w, **options)
            case "max_pool":
                return jaxcnn.max_pool(x, operation.kernel, **options)
