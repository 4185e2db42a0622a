"""Starts the real broker and waits for what it does; nothing here knows how the broker works inside."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent

START_DEADLINE_S = 30
STOP_DEADLINE_S = 20
# What a message needs to reach a waiting receiver, with room for a busy machine.
DELIVERY_DEADLINE_S = 15


def wait_until(condition, deadline_s=DELIVERY_DEADLINE_S, what="the condition"):
    """Polls until `condition()` is truthy and returns that value; fails with `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {deadline_s} s")
        time.sleep(0.02)


def wait_for_time_to_pass(seconds):
    """Lets real time pass where the passing of time is the subject (a lock that runs out, nothing arriving)."""
    time.sleep(seconds)


def home_directory() -> pathlib.Path:
    """The directory made by lib/make_config.py; run.sh names it, a bare pytest run makes its own."""
    named = os.environ.get("LOCKSTEP_INTEROP_HOME")
    if not named:
        named = tempfile.mkdtemp(prefix="lockstep-interop-")
        subprocess.run([sys.executable, str(HERE / "make_config.py"), named], check=True)
        os.environ["LOCKSTEP_INTEROP_HOME"] = named
    return pathlib.Path(named)


def policies() -> dict:
    return json.loads((home_directory() / "policies.json").read_text())


def certificate_file(name) -> str:
    return str(home_directory() / "certs" / name)


def binary() -> pathlib.Path:
    target = os.environ.get("CARGO_TARGET_DIR", str(HERE.parents[1] / "target"))
    path = pathlib.Path(os.environ.get("LOCKSTEP_BIN", f"{target}/debug/lockstep"))
    if not path.is_file():
        raise RuntimeError(f"no broker binary at {path}: build it, or name it in LOCKSTEP_BIN")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """One `lockstep serve` process with a data directory that survives `restart`."""

    def __init__(self, *, configuration=True, options=(), certificate=True):
        self.port = free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-broker-"))
        self.log_path = self.directory / "broker.log"
        self.command = [str(binary()), "serve", "--listen", f"127.0.0.1:{self.port}"]
        self.command += ["--data-dir", str(self.directory / "data")]
        if configuration is True:
            configuration = home_directory() / "lockstep.toml"
        if configuration:
            self.command += ["--config", str(configuration)]
        if certificate:
            self.command += ["--cert", certificate_file("server.pem"), "--key", certificate_file("server-key.pem")]
        self.command += [str(option) for option in options]
        self.process = None

    def start(self):
        # Settings of whoever runs the tests must not reach the broker.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LOCKSTEP_")}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self.directory
            )
        end = time.monotonic() + START_DEADLINE_S
        while not self.healthy():
            if not self.alive():
                raise AssertionError(f"the broker ended at start with {self.process.returncode}\n{self.log_tail()}")
            if time.monotonic() > end:
                raise AssertionError(f"the broker was not healthy within {START_DEADLINE_S} s\n{self.log_tail()}")
            time.sleep(0.02)
        return self

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int:
        """SIGTERM and the exit status; a broker that does not end in time is killed and fails the test."""
        if not self.alive():
            return self.process.returncode if self.process else 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the broker did not end within {STOP_DEADLINE_S} s of SIGTERM") from None

    def kill(self):
        """SIGKILL: what a power cut is to the process."""
        if self.alive():
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.kill()
        return self.start()

    def dispose(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_tail(self, lines=60) -> str:
        if not self.log_path.exists():
            return "(no broker log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def resident_kib(self) -> int:
        """Resident memory of the process in KiB (Linux)."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS in /proc")

    def connection_string(self, policy="root", *, key=None, name=None, host=None) -> str:
        """Plain TCP on the broker's port; `policy` is a key of policies.json."""
        key = key or policies()[policy]
        name = name or policy.removesuffix(".secondary")
        host = host or f"127.0.0.1:{self.port}"
        return (
            f"Endpoint=sb://{host};SharedAccessKeyName={name};SharedAccessKey={key};UseDevelopmentEmulator=true"
        )
