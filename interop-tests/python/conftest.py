"""Fixtures, and the verdict lines that docs/compatibility.md is made from."""

import json
import os
import pathlib

import pytest

import harness

CLIENT = "python"


@pytest.fixture(scope="session")
def shared_broker_slot():
    """The broker of this test process; replaced if a test brought it down."""
    slot = {}
    yield slot
    if "broker" in slot:
        slot["broker"].dispose()


@pytest.fixture
def broker(shared_broker_slot, request):
    running = shared_broker_slot.get("broker")
    if running is None or not running.alive():
        if running is not None:
            running.dispose()
        running = shared_broker_slot["broker"] = harness.Broker().start()
    request.node.broker_of_test = running
    yield running
    assert running.alive(), "the broker process ended during the test"


@pytest.fixture
def own_broker(request):
    """A factory for brokers that the test may kill; all are gone afterwards."""
    made = []

    def make(**options):
        one = harness.Broker(**options)
        made.append(one)
        request.node.broker_of_test = one
        return one.start()

    yield make
    for one in made:
        one.dispose()


@pytest.fixture
def queue(request):
    """Each scenario has the queue of its own name (lib/queues.json)."""
    return request.node.originalname.removeprefix("test_")


@pytest.fixture
def client(broker):
    with broker.client() as one:
        yield one


@pytest.fixture
def unretried(broker):
    """A client for refusals: a usual one repeats some of them for seconds before it tells."""
    with broker.client(retry_total=0) as one:
        yield one


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


PHASES = pytest.StashKey()


def write_verdict(item, phases):
    directory = os.environ.get("LOCKSTEP_INTEROP_RESULTS")
    if not directory:
        return
    outcomes = set(phases.values())
    verdict = "fail" if "failed" in outcomes else "skip" if "skipped" in outcomes else "pass"
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    line = {"client": CLIENT, "scenario": item.originalname.removeprefix("test_"), "verdict": verdict}
    with open(pathlib.Path(directory) / f"{CLIENT}-{worker}.jsonl", "a") as out:
        out.write(json.dumps(line) + "\n")
