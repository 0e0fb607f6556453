"""doctor: look at everything that has to work, and say the fix for what does not."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated

import httpx
import typer
from rich.text import Text

from taskfleet.async_client import DEFAULT_URL
from taskfleet.commands.parameters import KeyOption, Output, OutputOption, UrlOption
from taskfleet.diagnosis.api import check_api
from taskfleet.diagnosis.cluster import check_cluster
from taskfleet.diagnosis.finding import Finding, Verdict
from taskfleet.errors import UnavailableError
from taskfleet.exit_codes import ExitCode
from taskfleet.forwarding import forward_api
from taskfleet.keys import check_key
from taskfleet.output import console, print_json

__all__ = ["register"]

ANSWER_SECONDS = 10.0
STYLES = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.PROBLEM: "bold red"}

ClusterOption = Annotated[
    bool,
    typer.Option(
        "--cluster",
        "-k",
        help="Look at the release in the cluster of kubectl: CRD, pods, leader, rights, clocks, versions, TaskQueues.",
    ),
]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", envvar="TASKFLEET_NAMESPACE", help="Namespace of the release, with --cluster.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    cluster: ClusterOption = False,
    namespace: NamespaceOption = "taskfleet",
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> int:
    """Check API, database, store, broker, versions, clocks, access and queues, and say how to repair what is broken.

    With --cluster and without an address the API is that of the release, through a port-forward. Exit code 1 when
    there is a problem.
    """
    findings = _collect(cluster, namespace, url, api_key)
    problems = _tell(findings, output)
    return ExitCode.FAILED if problems else ExitCode.OK


def _collect(cluster: bool, namespace: str, url: str | None, api_key: str | None) -> Iterator[Finding]:
    cluster = cluster or "KUBERNETES_SERVICE_HOST" in os.environ
    key = check_key(api_key)
    if cluster and not url:
        yield from _check_forwarded(namespace, key)
    else:
        yield from _check_api(url or DEFAULT_URL, key)
    if cluster:
        yield from check_cluster(namespace)


def _check_forwarded(namespace: str, key: str | None) -> Iterator[Finding]:
    """The release's own API, as kubectl reaches it."""
    try:
        with forward_api(namespace) as address:
            yield from _check_api(address.url, key or address.key)
    except UnavailableError as error:
        fix = "see what is said of the cluster and the release below, or give the API's address: --url"
        yield Finding("api", Verdict.PROBLEM, str(error), fix)


def _check_api(url: str, key: str | None) -> Iterator[Finding]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=ANSWER_SECONDS) as http:
        yield from check_api(http)


def _tell(findings: Iterable[Finding], output: Output) -> int:
    """Print each as it comes; how many are problems."""
    seen = []
    for finding in findings:
        seen.append(finding)
        if output is Output.TABLE:
            line = Text.assemble((f"{finding.verdict:<8}", STYLES[finding.verdict]), (f"{finding.check}: ", "bold"))
            console().print(line.append(finding.detail))
            if finding.fix:
                console().print(Text(f"{'':<8}fix: {finding.fix}"))
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in seen)
    if output is Output.JSON:
        print_json([asdict(finding) for finding in seen])
    else:
        count = "1 problem" if problems == 1 else f"{problems} problems"
        console().print(Text(count if problems else "no problem", style="bold"))
    return problems
