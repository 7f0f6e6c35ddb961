"""Custom rules, right ones and wrong ones, of the sizes of real layers: what a checker has to tell apart.

All but the models are written in plain JAX as a user writes them, and know nothing of jaxcnn.
"""

from rules.models import MODELS, in_training
from rules.other_rules import RIGHT_OTHERS, WRONG_OTHERS
from rules.right import RIGHT_LAYERS
from rules.rule import Rule, with_rule
from rules.wrong import WRONG_LAYERS

WRONG = [*WRONG_LAYERS, *WRONG_OTHERS]
RIGHT = [*RIGHT_LAYERS, *RIGHT_OTHERS, *map(in_training, MODELS)]

__all__ = ["RIGHT", "WRONG", "Rule", "with_rule"]
