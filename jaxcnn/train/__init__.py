"""Training: the state, the jitted step, the loop, and what is left of it in a folder."""

from optax import cosine_decay_schedule

from jaxcnn.train.checkpoint import restore, save
from jaxcnn.train.loop import evaluate, fit
from jaxcnn.train.step import TrainState, init, make_step, sgd

__all__ = ["TrainState", "cosine_decay_schedule", "evaluate", "fit", "init", "make_step", "restore", "save", "sgd"]
