"""Creates the secrets of an installation without Helm, with random passwords; those that exist stay as they are.

Runs in the cluster with nothing but Python's standard library, as a ServiceAccount that may only create secrets.
"""

import json
import os
import secrets
import ssl
import string
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LETTERS = string.ascii_letters + string.digits
CONFLICT = 409


def generate(length: int = 32) -> str:
    """Letters and digits only: passwords go into URLs as they are."""
    return "".join(secrets.choice(LETTERS) for _ in range(length))


def build_secrets(release: str, namespace: str) -> dict[str, dict[str, str]]:
    """Names and contents, as the chart would generate them, but with one user for all roles."""
    broker, store, database = generate(), generate(), generate()
    rabbitmq = f"{release}-rabbitmq.{namespace}.svc"
    return {
        f"{release}-broker": {
            "username": "taskfleet",
            "password": broker,
            "erlangCookie": generate(40),
            "url": f"amqp://taskfleet:{broker}@{rabbitmq}:5672//",
            "managementUrl": f"http://{rabbitmq}:15672",
            "metricsUrl": f"http://{rabbitmq}:15692",
        },
        f"{release}-valkey": {
            "password": store,
            "url": f"redis://:{store}@{release}-valkey.{namespace}.svc:6379/0",
        },
        f"{release}-database": {
            "password": database,
            "url": f"postgresql://taskfleet:{database}@{release}-postgresql.{namespace}.svc:5432/taskfleet",
        },
        f"{release}-admin-key": {"apiKey": generate(40)},
    }


def create(name: str, namespace: str, values: dict[str, str]) -> bool:
    """Create one secret; False when it exists."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    request = urllib.request.Request(
        f"https://{f'[{host}]' if ':' in host else host}:{port}/api/v1/namespaces/{namespace}/secrets",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    # Many clusters' own authorities lack extensions that Python 3.13 asks for and kubectl does not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with urllib.request.urlopen(request, timeout=10, context=context):
            return True
    except urllib.error.HTTPError as error:
        if error.code == CONFLICT:
            return False
        raise SystemExit(f"{name}: {error.code} {error.read().decode()}") from None


def main() -> None:
    """Create what is missing."""
    namespace = (ACCOUNT / "namespace").read_text().strip()
    for name, values in build_secrets(os.environ["RELEASE"], namespace).items():
        print(name, "created" if create(name, namespace, values) else "exists")  # noqa: T201 - the Job's log


if __name__ == "__main__":
    main()
