"""How fast are jaxcnn's training steps and ops, next to those of others?

    python experiments/benchmark.py                     both tables, about half an hour on 2 cores
    python experiments/benchmark.py --networks VGG      these networks, no operations
    python experiments/benchmark.py --ops groups        the operations with this text in their name, no networks
    python experiments/benchmark.py --quick             a few small cases: does it work?

prints the tables in Markdown. The first has one training step of 8 networks, and of DP-SGD with a gradient for each of
64 and 256 examples, in every peer that is installed: `jaxcnn`, `lax` (the same network in jax.lax and jax.numpy,
differentiated by JAX), `flax`, `equinox`, `torch`. All start from the same parameters, and only peers that agree in the
loss before and after the first update are timed. The second has forward pass, input gradient and filter gradient of
single operations, in `jaxcnn` and `lax`.

Each peer is a process of its own. They are compiled and warmed up first and then timed in turns, one at a time, so that
what else the machine does disturbs all of them, until more turns would hardly change their ratio.
`--peer-python torch=PATH` runs a peer under another Python.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmark import measure, networks, operations, report, worker

PEERS = ["jaxcnn", "lax", "flax", "equinox", "torch"]


def parse():
    parser = argparse.ArgumentParser(description="Training steps and ops of jaxcnn next to those of others.")
    parser.add_argument("--networks", nargs="*", metavar="NAME", help="only networks, these or all")
    parser.add_argument(
        "--ops", nargs="*", metavar="TEXT", help="only operations, all or those with TEXT in their name"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="separated by commas; jaxcnn always takes part")
    parser.add_argument("--peer-python", action="append", default=[], metavar="PEER=PATH", help="the Python of a peer")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every peer at least (%(default)s)")
    parser.add_argument(
        "--patience",
        type=float,
        default=30,
        metavar="SECONDS",
        help="after which no further turn of a network, or of a part of an operation, begins (%(default)s)",
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--quick", action="store_true", help="a few small cases and 1 round")
    parser.add_argument("--json", metavar="FILE", help="where to write all times")
    parser.add_argument("--chart", metavar="FILE", help="where to draw the ratios (PNG)")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--platform", help=argparse.SUPPRESS)
    options = parser.parse_args()

    options.peers = ["jaxcnn", *(peer for peer in options.peers.split(",") if peer != "jaxcnn")]
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"--peers: unknown {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    options.peer_python = dict(pair.partition("=")[::2] for pair in options.peer_python)
    if unknown := set(options.peer_python) - set(PEERS):
        parser.error(f"--peer-python: expected PEER=PATH with a peer of {', '.join(PEERS)}")
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    if not options.patience >= 0:
        parser.error("--patience: at least 0")

    all_networks = list(networks.QUICK if options.quick else networks.NETWORKS)
    all_operations = [o.name for o in (operations.QUICK if options.quick else operations.OPERATIONS)]
    if unknown := set(options.networks or []) - set(all_networks):
        parser.error(f"--networks: unknown {', '.join(sorted(unknown))}; there are {', '.join(all_networks)}")
    both = options.networks is None and options.ops is None
    options.networks = all_networks if both else all_networks if options.networks == [] else options.networks or []
    texts = options.ops if options.ops else [""] if both or options.ops == [] else []
    options.ops = [name for name in all_operations if any(text in name for text in texts)]
    if options.quick:
        options.rounds, options.patience = 1, 0
    # Seconds of a handful of calls; of a training step four times as many.
    options.budget = 0.01 if options.quick else 0.05
    return options


def main():
    options = parse()
    if options.worker:
        return worker.serve(options.worker, options.platform)

    workers, missing = measure.start(options.peers, options.peer_python)
    try:
        for peer, reason in missing.items():
            print(f"{peer} is skipped: {reason}", file=sys.stderr)
        if "jaxcnn" not in workers:
            return "jaxcnn is what the others are compared with"
        result = {
            "machine": report.machine({peer: w.about for peer, w in workers.items()}, worker.cores()),
            "dtype": options.dtype,
            "rounds": options.rounds,
            "missing": missing,
            "peak_flops": measure.peak(workers["jaxcnn"], options.dtype, options.quick),
            "networks": [],
            "operations": [],
        }
        cases = [("networks", measure.network, name) for name in options.networks]
        cases += [("operations", measure.operation, name) for name in options.ops]
        for number, (table, measured, name) in enumerate(cases, 1):
            print(f"{number} of {len(cases)}: {name}", file=sys.stderr)
            result[table].append(measured(workers, name, options))
            if options.json:  # after every case, so that an interruption loses none
                Path(options.json).write_text(json.dumps(result, indent=1))
    finally:
        for one in workers.values():
            one.close()

    print(report.heading(result))
    for table in ("networks", "operations"):
        if result[table]:
            print(f"\n{getattr(report, table)(result)}")
    if options.chart:
        report.chart(result, options.chart)
    failed = report.failures(result)
    if failed:
        print("\n".join(["", "## Failed", "", *(f"- {line}" for line in failed)]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
