#!/usr/bin/env python3
"""Writes everything a scenario run needs into one directory (the "interop home").

    make_config.py HOME_DIRECTORY

* ``lockstep.toml``   two namespaces; one queue per scenario, from ``queues.json``
* ``policies.json``   policy name -> key; the keys are made anew on every run
* ``certs/``          a throw-away CA and a server certificate for the loopback names; another CA and
  client certificates: ``client`` (may send and listen), ``stranger`` (no rights), ``foreign``
  (not of that CA)

Every suite (Python, JavaScript, raw frames) starts its own brokers from these files,
so a queue, a policy or a lock duration means the same in all of them.
"""

import base64
import json
import pathlib
import secrets
import subprocess
import sys

LIBRARY = pathlib.Path(__file__).resolve().parent

NAMESPACE = "sbtest"
NAMESPACE_HOST = "sbtest.servicebus.windows.net"
OTHER_NAMESPACE = "other"
OTHER_NAMESPACE_HOST = "other.servicebus.windows.net"

# Policy name -> rights. `secondary_key` is tested with the first of them.
NAMESPACE_POLICIES = {
    "root": ["Manage", "Send", "Listen"],
    "listen-only": ["Listen"],
    "send-only": ["Send"],
}

# Subject of certs/client.pem; may send and listen everywhere in the first namespace.
CLIENT_SUBJECT = "CN=worker"

DEFAULTS = {"requires_session": False, "lock_duration_s": 60, "max_delivery_count": 10}


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def queues() -> dict:
    """Queue name -> settings, defaults filled in."""
    listed = json.loads((LIBRARY / "queues.json").read_text())
    return {name: {**DEFAULTS, **settings} for name, settings in listed.items()}


def toml_queue(name: str, settings: dict) -> str:
    lines = ["[[namespace.queue]]", f'name = "{name}"']
    for key, value in settings.items():
        lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def toml_policy(table: str, name: str, rights: list, primary: str, secondary: str | None = None) -> str:
    lines = [f"[[{table}]]", f'name = "{name}"', f'primary_key = "{primary}"']
    if secondary:
        lines.append(f'secondary_key = "{secondary}"')
    lines.append("rights = [" + ", ".join(f'"{right}"' for right in rights) + "]")
    return "\n".join(lines) + "\n"


def configuration() -> tuple[str, dict]:
    """The text of lockstep.toml and the keys in it."""
    keys = {name: new_key() for name in NAMESPACE_POLICIES}
    keys["root.secondary"] = new_key()
    keys["queue-policy"] = new_key()
    keys["other"] = new_key()

    parts = [
        '[tls]\ncertificate_file = "certs/server.pem"\nkey_file = "certs/server-key.pem"\n'
        'client_ca = "certs/client-ca.pem"\n'
    ]
    parts.append(f'[[namespace]]\nname = "{NAMESPACE}"\nhost_names = ["{NAMESPACE_HOST}"]\n')
    parts.append(f'[[namespace.client_certificate]]\nsubject = "{CLIENT_SUBJECT}"\nrights = ["Send", "Listen"]\n')
    for name, rights in NAMESPACE_POLICIES.items():
        secondary = keys["root.secondary"] if name == "root" else None
        parts.append(toml_policy("namespace.policy", name, rights, keys[name], secondary))
    for name, settings in queues().items():
        parts.append(toml_queue(name, settings))
        if name == "a_queue_policy_opens_only_its_queue":
            parts.append(toml_policy("namespace.queue.policy", "queue-policy", ["Send", "Listen"], keys["queue-policy"]))
        if name == "a_client_certificate_opens_what_it_is_named_for":
            parts.append('[[namespace.queue.client_certificate]]\nsan = "auditor.example"\nrights = ["Listen"]\n')

    parts.append(f'[[namespace]]\nname = "{OTHER_NAMESPACE}"\nhost_names = ["{OTHER_NAMESPACE_HOST}"]\n')
    parts.append(toml_policy("namespace.policy", "other", ["Manage", "Send", "Listen"], keys["other"]))
    parts.append(toml_queue("only_in_the_other_namespace", DEFAULTS))
    return "\n".join(parts), keys


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(directory: pathlib.Path, name: str, common_name: str) -> None:
    """NAME.pem and NAME-key.pem."""
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
        "-subj", f"/CN={common_name}", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", str(directory / f"{name}-key.pem"), "-out", str(directory / f"{name}.pem"),
    )  # fmt: skip


def make_certificate(
    directory: pathlib.Path, name: str, authority: str, subject: str, usage: str, names: str | None = None
) -> None:
    """NAME.pem and NAME-key.pem, signed by an authority made before."""
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", subject, "-keyout", str(directory / f"{name}-key.pem"), "-out", str(request),
    )  # fmt: skip
    lines = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", f"extendedKeyUsage={usage}"]
    if names:
        lines.append(f"subjectAltName={names}")
    extensions.write_text("\n".join(lines) + "\n")
    openssl(
        "x509", "-req", "-in", str(request), "-CA", str(directory / f"{authority}.pem"),
        "-CAkey", str(directory / f"{authority}-key.pem"), "-CAcreateserial",
        "-days", "30", "-extfile", str(extensions), "-out", str(directory / f"{name}.pem"),
    )  # fmt: skip


def make_certificates(directory: pathlib.Path) -> None:
    """A CA and a server certificate that names the loopback addresses and both namespaces; a CA of
    client certificates and some of these."""
    directory.mkdir(parents=True, exist_ok=True)
    make_authority(directory, "ca", "interop test CA")
    make_certificate(
        directory, "server", "ca", "/CN=localhost", "serverAuth",
        f"DNS:localhost,DNS:{NAMESPACE_HOST},DNS:{OTHER_NAMESPACE_HOST},IP:127.0.0.1,IP:::1",
    )  # fmt: skip
    make_authority(directory, "client-ca", "interop test client CA")
    make_certificate(directory, "client", "client-ca", "/CN=worker", "clientAuth")
    make_certificate(directory, "auditor", "client-ca", "/CN=auditor", "clientAuth", "DNS:auditor.example")
    make_certificate(directory, "stranger", "client-ca", "/CN=stranger", "clientAuth")
    make_certificate(directory, "foreign", "ca", "/CN=worker", "clientAuth")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: make_config.py HOME_DIRECTORY")
    home = pathlib.Path(sys.argv[1])
    home.mkdir(parents=True, exist_ok=True)
    text, keys = configuration()
    (home / "lockstep.toml").write_text(text)
    (home / "policies.json").write_text(json.dumps(keys, indent=1))
    make_certificates(home / "certs")


if __name__ == "__main__":
    main()
