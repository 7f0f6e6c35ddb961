"""Does `train.fit` take a DataLoader of PyTorch as it is?

    python experiments/loaders.py

trains a small network on the digits with batches from `torch.utils.data.DataLoader`, in this process and by two worker
processes, and with the same batches as arrays. It ends with an error unless the losses are the same to the last bit.
"""

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.utils.data import DataLoader, TensorDataset  # pyright: ignore[reportMissingImports]

from jaxcnn import data, nn, train

BATCH = 64


def losses(batches, x):
    """The training losses of two epochs."""
    model = nn.sequential(nn.flatten(), nn.dense(10))
    optimizer = train.sgd(0.1)
    seen = []
    train.fit(
        model,
        train.make_step(model, optimizer),
        train.init(model, optimizer, jax.random.key(0), x.shape),
        batches,
        epochs=2,
        callbacks=[lambda step, metrics, state: seen.append(metrics["train_loss"])],
    )
    return seen


def main():
    digits = data.load("digits")
    x = data.standardize(digits.train_x, *data.fit_standardization(digits.train_x))
    y = digits.train_y
    expected = losses([(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x) - BATCH, BATCH)], x)
    dataset = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    for workers in (0, 2):
        context = "spawn" if workers else None
        loader = DataLoader(dataset, BATCH, drop_last=True, num_workers=workers, multiprocessing_context=context)
        assert losses(loader, x) == expected, workers
        print(f"DataLoader with {workers} workers: the same losses, {np.round(expected, 4).tolist()}")


if __name__ == "__main__":
    main()
