"""A small JSON client of the API server for tests: one connection, no process per call, and waits that watch.

kubectl takes 0.1 s and a process for each call; hundreds of cases cannot afford that. Where what kubectl prints or
does is the point, tests use kubectl.
"""

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind

from .localcluster.cluster import Reachable

__all__ = ["ApiClient", "ApiError", "Manifest", "NotYet"]

Manifest = dict[str, Any]
#: How a test that applies is named in managedFields: somebody other than the operator.
MANAGER = "e2e"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
#: Longest silence of a watch before it is begun anew; bounds the time a lost event costs.
_WATCH_S = 10.0


class ApiError(AssertionError):
    """The API server refused; `code` and `message` are its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class NotYet(AssertionError):
    """What was awaited did not come; the message shows what was there last."""


class ApiClient:
    """Speaks to one API server as the bearer of a token."""

    def __init__(self, server: Reachable, token: str) -> None:
        url, ca_pem = server.endpoint()
        self._address = urllib.parse.urlsplit(url)
        self._context = ssl.create_default_context(cadata=ca_pem.decode())
        self._token = token
        self._connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        return self.call("GET", kind.object_path(namespace, name))

    def find(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """The object, or None if it is not there."""
        try:
            return self.get(kind, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None, *, selector: str = "") -> list[Manifest]:
        """The items, with apiVersion and kind filled in."""
        query = f"?labelSelector={urllib.parse.quote(selector)}" if selector else ""
        answer = self.call("GET", kind.collection_path(namespace) + query)
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer["items"]]

    def apply(self, obj: Mapping[str, Any], namespace: str | None = None) -> Manifest:
        """Server-side apply as `e2e`, forced."""
        kind = kinds.of(dict(obj))
        path = kind.object_path(obj["metadata"].get("namespace", namespace), obj["metadata"]["name"])
        return self.call("PATCH", f"{path}?fieldManager={MANAGER}&force=true", obj, content=_APPLY)

    def create(self, obj: Mapping[str, Any], namespace: str | None = None) -> Manifest:
        kind = kinds.of(dict(obj))
        return self.call("POST", kind.collection_path(obj["metadata"].get("namespace", namespace)), obj)

    def merge(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> Manifest:
        """JSON merge patch: null removes."""
        return self.call("PATCH", kind.object_path(namespace, name), patch, content=_MERGE)

    def replace(self, kind: Kind, obj: Mapping[str, Any]) -> Manifest:
        """PUT: the object as given, whoever owned which field."""
        metadata = obj["metadata"]
        return self.call("PUT", kind.object_path(metadata.get("namespace"), metadata["name"]), obj)

    def delete(
        self, kind: Kind, namespace: str | None, name: str, *, propagation: str = "Background"
    ) -> None:
        """Ask for deletion; what is gone already is no error."""
        try:
            path = f"{kind.object_path(namespace, name)}?propagationPolicy={propagation}"
            self.call("DELETE", path)
        except ApiError as error:
            if error.code != 404:
                raise

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
    ) -> Manifest:
        """One request.

        Raises:
            ApiError: any answer of 400 or above.
        """
        # Not as ASCII: the server reads an apply as YAML, which knows no surrogate pairs.
        text = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        code, answer = self._roundtrip(method, path, text, content)
        if code >= 400:
            raise ApiError(code, _message(answer))
        document: Manifest = json.loads(answer) if answer else {}
        return document

    def wait(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        holds: Callable[[Manifest], object],
        *,
        timeout_s: float = 30,
    ) -> Manifest:
        """The object as soon as `holds` does; looked at again at each of its events.

        Raises:
            NotYet: not within the time; the message has the object as it was last.
        """
        (found,) = self.wait_all(kind, namespace, [name], holds, timeout_s=timeout_s).values()
        return found

    def wait_all(
        self,
        kind: Kind,
        namespace: str,
        names: Sequence[str],
        holds: Callable[[Manifest], object],
        *,
        timeout_s: float = 60,
    ) -> dict[str, Manifest]:
        """As `wait`, for several objects of a namespace at once. Each counts from when `holds` was first true."""
        deadline_s = time.monotonic() + timeout_s
        done: dict[str, Manifest] = {}
        last: dict[str, Manifest] = {}
        wanted = set(names)
        field = f"metadata.name={names[0]}" if len(names) == 1 else ""
        while True:
            for obj in self._changes(kind, namespace, field, deadline_s):
                name = obj["metadata"]["name"]
                last[name] = obj
                if name in wanted and name not in done and holds(obj):
                    done[name] = obj
                if len(done) == len(wanted):
                    return done
            if time.monotonic() > deadline_s:
                missing = sorted(wanted - set(done))
                shown = json.dumps(_essence(last.get(missing[0], {})), indent=1)
                raise NotYet(
                    f"{len(missing)} of {len(wanted)} {kind} are not there after {timeout_s:.0f} s: "
                    f"{', '.join(missing[:8])}; the first one: {shown}"
                )

    def wait_gone(self, kind: Kind, namespace: str, name: str, *, timeout_s: float = 30) -> None:
        """Return when no object of that name is there.

        Raises:
            NotYet: it still is.
        """
        deadline_s = time.monotonic() + timeout_s
        while self.find(kind, namespace, name) is not None:
            if time.monotonic() > deadline_s:
                raise NotYet(f"{kind} {name} is still there after {timeout_s:.0f} s")
            time.sleep(0.05)

    def _changes(self, kind: Kind, namespace: str, field: str, deadline_s: float) -> Iterator[Manifest]:
        """What is there, then what changes, until the watch ends or the time is up. Deleted ones are left out."""
        selector = f"fieldSelector={urllib.parse.quote(field)}&" if field else ""
        path = kind.collection_path(namespace)
        listed = self.call("GET", f"{path}?{selector}")
        yield from listed["items"]
        left_s = min(_WATCH_S, deadline_s - time.monotonic())
        if left_s <= 0:
            return
        version = listed["metadata"]["resourceVersion"]
        query = f"{selector}watch=1&resourceVersion={version}&timeoutSeconds={max(1, round(left_s))}"
        with closing(self._connect(timeout_s=left_s + 5)) as connection:
            connection.request("GET", f"{path}?{query}", headers=self._headers())
            for line in connection.getresponse():
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]

    def _roundtrip(self, method: str, path: str, body: bytes | None, content: str) -> tuple[int, bytes]:
        headers = self._headers() | {"Content-Type": content}
        for attempt in (0, 1):
            if self._connection is None:
                self._connection = self._connect(timeout_s=30)
            try:
                self._connection.request(method, path, body=body, headers=headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                # The server closes idle connections; a request on one has not reached it.
                self.close()
                if attempt:
                    raise
            except (http.client.HTTPException, OSError):
                self.close()  # half a request is of no use to the next caller
                raise
        raise AssertionError("unreachable")

    def _connect(self, *, timeout_s: float) -> http.client.HTTPSConnection:
        host, port = str(self._address.hostname), self._address.port
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._context)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}


def _message(answer: bytes) -> str:
    """What a Status says; a path that is not served at all is answered in plain text."""
    try:
        return str(json.loads(answer).get("message", ""))
    except ValueError:
        return answer.decode(errors="replace")


def _essence(obj: Mapping[str, Any]) -> Manifest:
    """What a failed wait shows."""
    metadata = obj.get("metadata", {})
    kept = {k: metadata[k] for k in ("name", "namespace", "generation", "deletionTimestamp") if k in metadata}
    return {"metadata": kept, "status": obj.get("status")}
