"""Wrong rules of the sizes of real layers are found, and the report says where; right ones are left in peace."""

import jax
import pytest
from rules import RIGHT, WRONG

from jaxcnn import check


@pytest.fixture(autouse=True)
def _as_users_write():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# The experiment has the largest, too.
_ENTRIES = 300_000


def quick(rules):
    return [rule for rule in rules if sum(getattr(arg, "size", 0) for arg in rule.args) <= _ENTRIES]


@pytest.mark.parametrize("rule", quick(WRONG), ids=lambda rule: rule.name)
def test_wrong_rule_is_found_and_located(rule):
    report = check.gradients(rule.f, *rule.args, **rule.options)
    assert report.verdict == "wrong"
    for said in rule.said:
        assert said in str(report)


@pytest.mark.parametrize("rule", quick(RIGHT), ids=lambda rule: rule.name)
def test_right_rule_is_right(rule):
    report = check.gradients(rule.f, *rule.args, **rule.options)
    assert report.verdict == ("not checked" if rule.name == "a gradient that cancels" else "right")
