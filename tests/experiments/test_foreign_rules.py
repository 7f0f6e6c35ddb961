"""The script that checks other people's rules, on a pattern that needs no package."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / "experiments" / "foreign_rules.py"


def test_a_deviation_on_purpose_is_right_under_its_claim_and_planted_faults_are_found():
    command = [sys.executable, str(SCRIPT), "--here", "patterns", "--only", "int8"]
    (line,) = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    result = json.loads(line)
    assert (result["verdict"], result["claim"], result["claimed"]) == ("wrong", "claims", "right")
    assert set(result["faults"].values()) == {"found"}
    assert len(result["rules"]) == 1
