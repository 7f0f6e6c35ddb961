"""PyTorch's functional layers, channels last in memory for two spatial axes; run eagerly, as it is by default."""

import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmark.layers import EPS, forward
from benchmark.networks import LEARNING_RATE, MOMENTUM, draw_batch, draw_parameters
from benchmark.worker import Loaded, cores

CONV = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
CONV_TRANSPOSE = {3: functional.conv_transpose1d, 4: functional.conv_transpose2d, 5: functional.conv_transpose3d}
MAX_POOL = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}


def _backward_per_example(loss_of, parameters, x, y):
    """The mean loss. The gradients become the mean of those of the examples, each clipped to the norm 1."""

    def of_one(parameters, x, y):
        return loss_of(parameters, x[None], y[None])

    gradients, losses = torch.func.vmap(torch.func.grad_and_value(of_one), in_dims=(None, 0, 0))(parameters, x, y)
    pairs = [(p, g[name]) for layer, g in zip(parameters, gradients, strict=True) for name, p in layer.items()]
    norms = torch.stack([g.flatten(1).norm(dim=1) for _, g in pairs]).norm(dim=0)
    factors = 1 / norms.clamp(min=1)
    for p, g in pairs:
        p.grad = torch.einsum("n,n...->...", factors, g.detach()) / len(x)
    return losses.mean()


class Peer:
    def __init__(self, platform: str | None):
        self.platform = "gpu" if platform != "cpu" and torch.cuda.is_available() else "cpu"
        self.device = "cuda" if self.platform == "gpu" else "cpu"
        torch.set_num_threads(cores())
        kind = torch.cuda.get_device_name() if self.platform == "gpu" else "cpu"
        self.about = {"platform": self.platform, "device_kind": kind, "versions": {"torch": torch.__version__}}

    def conv(self, x, p, layer):
        return CONV[x.ndim](x, p["w"], p.get("b"), layer.stride, layer.padding, groups=layer.groups)

    def conv_transpose(self, x, p, layer):
        return CONV_TRANSPOSE[x.ndim](x, p["w"], p["b"], layer.stride, layer.padding)

    def batch_norm(self, x, p):
        return functional.batch_norm(x, None, None, p["gamma"], p["beta"], training=True, eps=EPS)

    def dense(self, x, p, _):
        return functional.linear(x, p["w"], p["b"])

    def relu(self, x, _):
        return functional.relu(x)

    def add(self, x, y):
        return x + y

    def max_pool(self, x, window):
        return MAX_POOL[x.ndim](x, window)

    def global_mean_pool(self, x):
        return x.mean(tuple(range(2, x.ndim)))

    def flatten(self, x):
        return x.movedim(1, -1).flatten(1)  # in jaxcnn's order

    def load_network(self, network, dtype):
        """The training step: gradient, and stochastic gradient descent with momentum."""
        parameters = [
            {name: self._leaf(torch.from_numpy(p), dtype) for name, p in layer.items()}
            for layer in draw_parameters(network)
        ]
        images, labels = (torch.from_numpy(a) for a in draw_batch(network))
        x = self._place(images.movedim(-1, 1), dtype)
        y = x if network.reconstructs else labels.long().to(self.device)
        optimizer = torch.optim.SGD([p for layer in parameters for p in layer.values()], LEARNING_RATE, MOMENTUM)

        def loss_of(parameters, x, y):
            output = forward(network.layers, iter(parameters), x, self)
            return functional.mse_loss(output, y) if network.reconstructs else functional.cross_entropy(output, y)

        def step():
            optimizer.zero_grad()
            if network.per_example:
                loss = _backward_per_example(loss_of, parameters, x, y)
            else:
                loss = loss_of(parameters, x, y)
                loss.backward()
            optimizer.step()
            return loss.detach()

        def wait(_):
            if self.platform == "gpu":
                torch.cuda.synchronize()

        return Loaded(step, wait, [step().item() for _ in range(2)], 1 if self.platform == "cpu" else 10)

    def _leaf(self, p, dtype):
        """A parameter in PyTorch's layout: filters [O, C/groups, *K], transposed ones [C, O, *K], weights [O, I]."""
        if p.ndim > 1:
            p = p.movedim(-1, 0).movedim(-1, 1)
        return self._place(p, dtype).requires_grad_()

    def _place(self, a, dtype):
        layout = torch.channels_last if a.ndim == 4 else torch.contiguous_format
        return a.to(self.device, getattr(torch, dtype)).contiguous(memory_format=layout)
