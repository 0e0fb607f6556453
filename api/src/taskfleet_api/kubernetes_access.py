"""Kubernetes decides: a ServiceAccount's token says who calls (TokenReview), RBAC says what for (SubjectAccessReview).

The resource is `taskqueues/tasks` of taskfleet.dev in the namespace and by the name of the TaskQueue; the verbs are
create (submit, retry, schedules), get and list, delete (cancel) and update (dead letters). As everywhere in
Kubernetes, `list` is asked for whole namespaces.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from taskfleet_api.access import API, Caller, KeyScope, find_verb
from taskfleet_api.remembering import Remembered
from taskfleet_core.errors import UnavailableError

__all__ = ["KubernetesAccess", "Locate", "User", "find_kubernetes_url"]

# A right that was taken away may hold this much longer.
TRUST_SECONDS = 10.0
# While the Kubernetes API does not answer, who was let in lately still is.
STALE_SECONDS = 300.0
TIMEOUT_SECONDS = 5.0
QUESTIONS_AT_ONCE = 16
GROUP, RESOURCE, SUBRESOURCE = "taskfleet.dev", "taskqueues", "tasks"

Locate = Callable[[str], tuple[str, str] | None]  # queue -> namespace and name of its TaskQueue
Question = tuple[str, str, str]  # verb, namespace, name ("" for all)


def find_kubernetes_url() -> str:
    """The Kubernetes API of the cluster in which this runs. Raises ValueError outside of one."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ValueError("kubernetes_auth outside of a cluster needs kubernetes_url")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


@dataclass(frozen=True, slots=True)
class User:
    """Whom a token belongs to, in the words of Kubernetes."""

    name: str
    uid: str
    groups: tuple[str, ...]


class KubernetesAccess:
    """Asks the Kubernetes API, as the ServiceAccount whose token is in `token_file`; it needs system:auth-delegator."""

    def __init__(
        self,
        url: str,
        *,
        token_file: Path,
        ca_file: Path,
        audiences: Sequence[str] = (),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        # Python 3.13 refuses authorities without key usage, which many clusters have.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._client = httpx.AsyncClient(
            base_url=url, verify=context, timeout=TIMEOUT_SECONDS, trust_env=False, transport=transport
        )
        self._token_file = token_file
        self._audiences = tuple(audiences)
        self._questions = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._users: Remembered[bytes, User | None] = Remembered(
            trust_seconds=TRUST_SECONDS, stale_seconds=STALE_SECONDS, worth=lambda user: user is not None
        )
        self._rights: Remembered[tuple[User, Question], bool] = Remembered(
            trust_seconds=TRUST_SECONDS, stale_seconds=STALE_SECONDS, worth=bool, max_entries=100_000
        )
        self.locate: Locate = lambda _queue: None

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def identify(self, token: bytes, digest: bytes, method: str, path: str) -> Caller | None:
        """The caller of one request; None for a token that Kubernetes does not know. Raises UnavailableError."""
        user = await self._users.get(digest, lambda: self._review_token(token))
        if user is None:
            return None
        scopes = frozenset({KeyScope.SUBMIT, KeyScope.READ, KeyScope.CANCEL})
        if path.startswith(f"{API}queues/"):
            scopes = frozenset({KeyScope.ADMIN})  # dead letters: the verb update decides, queue by queue
        return _KubernetesCaller(
            f"kubernetes:{user.name}", scopes, (), access=self, user=user, verb=find_verb(method, path)
        )

    async def may(self, user: User, question: Question) -> bool:
        """Whether RBAC allows it. Raises UnavailableError."""
        return await self._rights.get((user, question), lambda: self._review_access(user, question))

    async def _review_token(self, token: bytes) -> User | None:
        spec: dict[str, Any] = {"token": token.decode("latin-1")}
        if self._audiences:
            spec["audiences"] = list(self._audiences)
        status = await self._create("authentication.k8s.io", "TokenReview", spec)
        if not status.get("authenticated"):
            return None
        # Who knows nothing of audiences leaves them out, and lets in tokens that were made for others.
        if self._audiences and not set(self._audiences) & set(status.get("audiences") or ()):
            return None
        user = status["user"]
        return User(user["username"], user.get("uid", ""), tuple(user.get("groups", ())))

    async def _review_access(self, user: User, question: Question) -> bool:
        verb, namespace, name = question
        attributes = {"group": GROUP, "resource": RESOURCE, "subresource": SUBRESOURCE, "verb": verb}
        attributes |= {"namespace": namespace} | ({"name": name} if name else {})
        spec = {"user": user.name, "uid": user.uid, "groups": list(user.groups), "resourceAttributes": attributes}
        status = await self._create("authorization.k8s.io", "SubjectAccessReview", spec)
        return bool(status.get("allowed"))

    async def _create(self, group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        """The status of a review."""
        body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
        try:
            async with asyncio.timeout(2 * TIMEOUT_SECONDS), self._questions:
                # Read each time: the kubelet renews it.
                token = await asyncio.to_thread(self._token_file.read_text)
                response = await self._client.post(
                    f"/apis/{group}/v1/{kind.lower()}s", json=body, headers={"Authorization": f"Bearer {token.strip()}"}
                )
                response.raise_for_status()
                status: dict[str, Any] = response.json()["status"]
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            hint = "; the API's ServiceAccount needs the ClusterRole system:auth-delegator" if code == 403 else ""
            raise UnavailableError(f"The Kubernetes API answered a {kind} with {code}{hint}.") from error
        except (httpx.HTTPError, OSError, TimeoutError, ValueError, KeyError) as error:
            raise UnavailableError(f"The Kubernetes API did not answer a {kind}.") from error
        return status


@dataclass(frozen=True, slots=True, kw_only=True)
class _KubernetesCaller(Caller):
    """A caller for one request: which queues it sees is what RBAC says of the request's verb."""

    access: KubernetesAccess
    user: User
    verb: str
    answers: dict[Question, bool] = field(default_factory=dict)

    async def prepare(self, queues: Sequence[str]) -> None:
        """Ask, also what was answered before: a stream goes on for longer than a right may."""
        questions = sorted({question for queue in queues if (question := self._build_question(queue)) is not None})
        answers = await asyncio.gather(*(self.access.may(self.user, question) for question in questions))
        self.answers.update(zip(questions, answers, strict=True))

    def sees(self, queue: str) -> bool:
        """What nobody asked for is not seen."""
        question = self._build_question(queue)
        return question is not None and self.answers.get(question, False)

    def _build_question(self, queue: str) -> Question | None:
        place = self.access.locate(queue)
        if place is None:
            return None
        namespace, name = place
        return (self.verb, namespace, "" if self.verb == "list" else name)
