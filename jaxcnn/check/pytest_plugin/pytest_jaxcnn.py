"""The pytest plugin of jaxcnn: `check_vjp`, and `--vjp=all`.

pytest imports this file for every suite of the environment. So it imports neither jax nor jaxcnn before a test or an
option asks for them, and it is no part of the package `jaxcnn`, whose import brings both.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jaxcnn.check.recorded import Outcome
    from jaxcnn.check.recording import Recorder

_OUTPUT = "jaxcnn_vjp"
_NEVER_COMPUTED = "it was traced, but never computed, also when the test ran once more for the values"
_FAILED_AGAIN = (
    "it was traced, and the test failed when it ran once more, with callbacks for the values in its programs"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("jaxcnn", "custom differentiation rules of JAX")
    group.addoption(
        "--vjp",
        metavar="all|PART|-PART,...",
        help="check the custom_vjp and custom_jvp rules that the tests reach, with the values that they are called "
        "with: all but JAX's own, or those whose name or file contains a PART, but for a -PART, as in "
        "--vjp=all,-straight_through; --vjp=all,jax checks JAX's own too",
    )
    group.addoption("--vjp-limit", metavar="N", type=int, default=3, help="signatures of a rule to check (default: 3)")
    group.addoption("--vjp-report", metavar="FILE", help="with --vjp: write the verdicts to a .json or .html file")


def pytest_configure(config: pytest.Config) -> None:
    # A suite that names the plugin in `pytest_plugins` of a test file has none of its options.
    wanted, report = config.getoption("vjp", None), config.getoption("vjp_report", None)
    limit: Any = config.getoption("vjp_limit", 1)
    if report is not None:
        if wanted is None:
            raise pytest.UsageError("--vjp-report needs --vjp, as in --vjp=all")
        if Path(report).suffix not in (".json", ".html"):
            raise pytest.UsageError(f"--vjp-report must be a .json or .html file, got {report!r}")
        if not _path(config, report).parent.is_dir():
            raise pytest.UsageError(f"--vjp-report: there is no folder {Path(report).parent}")
    if limit < 1:
        raise pytest.UsageError(f"--vjp-limit must be at least 1, got {limit}")
    if wanted is not None:
        parts = [part.strip() for part in wanted.split(",")]
        if any(part.strip("-") == "" for part in parts):
            raise pytest.UsageError(f"--vjp must be all, or parts of names with commas between, got {wanted!r}")
        config.pluginmanager.register(_Recording(config, parts, limit), "jaxcnn-vjp-recording")


@pytest.fixture
def check_vjp(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`jaxcnn.check.gradients`, of the same arguments, that fails the test unless the verdict is right."""
    from jaxcnn import check
    from jaxcnn.check.annotations import on_github

    def check_vjp(f: Callable[..., Any], *args: Any, **options: Any) -> check.Report:
        __tracebackhide__ = True
        report = check.gradients(f, *args, **options)
        if not report:
            if on_github():
                request.node.add_report_section("call", "annotations", "\n".join(report.annotations()))
            pytest.fail(f"{getattr(f, '__name__', f)} is {report.verdict}\n{report}")
        return report

    return check_vjp


class _Recording:
    """Records while the tests run, checks when they are over, and tells what was found."""

    def __init__(self, config: pytest.Config, wanted: list[str], limit: int) -> None:
        self.config, self.wanted, self.limit = config, wanted, limit
        self.recorder: Recorder | None = None
        self.seconds: dict[str, float] = {}
        self.run_again: dict[str, bool] = {}
        self.since = 0.0
        self.outcomes: list[Outcome] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        """Not before all tests are imported: they may set what JAX reads when it is imported."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from jaxcnn.check.recording import Recorder

        self.recorder = Recorder(self.wanted, self.limit)
        self.recorder.start()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        if self.recorder is not None:
            self.recorder.test = item.nodeid
        start = time.perf_counter()
        yield
        self.seconds[item.nodeid] = time.perf_counter() - start

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Runs the quickest test of each call that was traced only once more, when nothing of the suite follows."""
        outcome: Any = yield
        self.since = time.perf_counter()
        stopped = outcome.excinfo or session.shouldstop or session.shouldfail
        if self.recorder is None or stopped or self.config.getoption("usepdb"):
            return
        items = {item.nodeid: item for item in session.items}
        self.recorder.capture = True
        records = list(self.recorder.records.values())
        for record in records:
            tests = record.traced_in & items.keys() - self.run_again.keys()
            if self.recorder.lacks(record) and tests:
                test = min(tests, key=lambda test: (self.seconds[test], test))
                self.run_again[test] = self._passes_again(items[test])
        for record in records:
            passed = [self.run_again[test] for test in record.traced_in & self.run_again.keys()]
            if passed and not record.missing:
                record.missing = _NEVER_COMPUTED if all(passed) else _FAILED_AGAIN

    def _passes_again(self, item: pytest.Item) -> bool:
        """Whether it passes, which counts for nothing: it is only to give values."""
        import jax
        from _pytest.runner import runtestprotocol  # which is made for plugins that run a test again

        assert self.recorder is not None
        if not self.run_again:
            jax.clear_caches()  # what was traced before has no callback
        self.recorder.test = item.nodeid
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reports = runtestprotocol(item, log=False)
            jax.effects_barrier()
        return not any(report.failed for report in reports)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist is done."""
        from jaxcnn.check.recorded import Outcome

        text = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if text is not None:
            self.outcomes.append(Outcome.from_json(text))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        from jaxcnn.check.recorded import WRONG, merged, outcome

        if self.recorder is not None:
            self.recorder.stop()
            self.since = self.since or time.perf_counter()
            if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                self.outcomes.append(outcome(self.recorder, len(self.run_again), self.since))
        if not self.outcomes:
            return
        self.outcomes = [merged(self.outcomes)]
        output = getattr(self.config, "workeroutput", None)  # pytest-xdist's, in its workers
        if output is not None:
            output[_OUTPUT] = json.dumps(self.outcomes[0].to_json())
            return
        report = self.config.getoption("vjp_report")
        if report is not None:
            self.outcomes[0].write(_path(self.config, report), self.config.rootpath)
        if self.outcomes[0].verdict == WRONG and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for found in self.outcomes:
            terminalreporter.section(f"custom rules (--vjp={','.join(self.wanted)})")
            for line in found.lines(self.config.rootpath, every=self.config.option.verbose >= 0):
                terminalreporter.line(line, red="WRONG" in line)
            from jaxcnn.check.annotations import on_github

            for line in found.annotations() if on_github() else ():
                terminalreporter.line(line)


def _path(config: pytest.Config, report: str) -> Path:
    return config.invocation_params.dir / report
