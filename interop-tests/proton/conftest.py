"""One broker for the suite, and the verdict lines that docs/compatibility.md is made from."""

import json
import os
import pathlib

import pytest

import harness

CLIENT = "proton"
PHASES = pytest.StashKey()


@pytest.fixture(scope="session")
def broker():
    running = harness.Broker().start()
    yield running
    running.dispose()


@pytest.fixture
def s(broker, request):
    """Each scenario has the queue of its own name (lib/queues.json)."""
    request.node.broker_of_test = broker
    scenario = harness.Scenario(request.node.originalname.removeprefix("test_"), broker)
    yield scenario
    scenario.end()
    assert broker.alive(), "the broker process ended during the test"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and getattr(item, "broker_of_test", None):
        report.sections.append(("broker log", item.broker_of_test.log_tail()))
    phases = item.stash.setdefault(PHASES, {})
    phases[report.when] = report.outcome
    if report.when == "teardown":
        write_verdict(item, phases)


def write_verdict(item, phases):
    directory = os.environ.get("LOCKSTEP_INTEROP_RESULTS")
    if not directory:
        return
    outcomes = set(phases.values())
    verdict = "fail" if "failed" in outcomes else "skip" if "skipped" in outcomes else "pass"
    line = {"client": CLIENT, "scenario": item.originalname.removeprefix("test_"), "verdict": verdict}
    with open(pathlib.Path(directory) / f"{CLIENT}.jsonl", "a") as out:
        out.write(json.dumps(line) + "\n")
