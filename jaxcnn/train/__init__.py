"""Training: the state, the jitted step, the loop, and what is left of it in a folder."""

from optax import cosine_decay_schedule

from jaxcnn.train import metrics
from jaxcnn.train.averaging import averaged, ema
from jaxcnn.train.checkpoint import restore, save
from jaxcnn.train.evaluation import evaluate, predict
from jaxcnn.train.loop import fit
from jaxcnn.train.model import Trained, load
from jaxcnn.train.optimizers import optimizer, schedule, sgd
from jaxcnn.train.saving import save_model
from jaxcnn.train.step import TrainState, init, make_step

__all__ = [
    "TrainState",
    "Trained",
    "averaged",
    "cosine_decay_schedule",
    "ema",
    "evaluate",
    "fit",
    "init",
    "load",
    "make_step",
    "metrics",
    "optimizer",
    "predict",
    "restore",
    "save",
    "save_model",
    "schedule",
    "sgd",
]
