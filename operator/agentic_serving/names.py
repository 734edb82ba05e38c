"""Every label, annotation and object name the operator uses, and how long names stay legal.

Kubernetes limits: a label value has at most 63 characters, a Service name is a DNS-1035 label of at
most 63, and a pod's name is its Deployment's plus 17 (`-<10>-<5>` and the dash between).
"""

import hashlib
import re

__all__ = [
    "ACCELERATOR_LABEL",
    "API_VERSION",
    "CATEGORY",
    "COMPONENT_LABEL",
    "CONFIG_HASH_ANNOTATION",
    "FIELD_MANAGER",
    "GROUP",
    "MANAGED_BY_LABEL",
    "MANAGED_BY_VALUE",
    "MAX_CHILD_NAME",
    "MAX_STACK_NAME",
    "NAME_LABEL",
    "OWNER_UID_LABEL",
    "REVISION_LABEL",
    "ROLE_LABEL",
    "STACK_LABEL",
    "VERSION",
    "child_name",
    "label_value",
    "short_hash",
]

GROUP = "agentic-serving.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "agentic"
FIELD_MANAGER = "agentic-serving-operator"

#: On every object we write; the operator watches children by it. Value: MANAGED_BY_VALUE.
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY_VALUE = "agentic-serving"
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
#: Our own keys: never `app.kubernetes.io/instance`, which Argo CD tracks by in label mode.
STACK_LABEL = f"{GROUP}/stack"
OWNER_UID_LABEL = f"{GROUP}/owner-uid"
ROLE_LABEL = f"{GROUP}/role"
REVISION_LABEL = f"{GROUP}/revision"
ACCELERATOR_LABEL = f"{GROUP}/accelerator"
#: On pod templates: changes exactly when a file that the pod reads changes, and so rolls it.
CONFIG_HASH_ANNOTATION = f"{GROUP}/config-hash"

#: A stack's name itself: its Service has the same name, a DNS-1035 label.
MAX_STACK_NAME = 63
#: Leaves a pod of a Deployment (17 more characters) within the 63 of a label value and a host name.
MAX_CHILD_NAME = 46

_NOT_LABEL = re.compile(r"[^A-Za-z0-9_.-]")


def short_hash(text: str, *, length: int = 8) -> str:
    """The first `length` hexadecimal digits of SHA-256: for names and revisions, not for security."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def child_name(parent: str, suffix: str, *, limit: int = MAX_CHILD_NAME) -> str:
    """`<parent>-<suffix>`, cut with a hash of the parent where it would not fit.

    Two parents never share a child's name: a cut name carries the hash of the whole parent.
    """
    name = f"{parent}-{suffix}" if suffix else parent
    if len(name) <= limit:
        return name
    digest = short_hash(parent)
    room = limit - len(digest) - 1 - (len(suffix) + 1 if suffix else 0)
    head = parent[:room].rstrip("-.")
    return f"{head}-{digest}-{suffix}" if suffix else f"{head}-{digest}"


def label_value(text: str) -> str:
    """Any text as a legal label value of at most 63 characters; equal texts give equal values.

    What is legal stays as it is; what is not is replaced, cut and made distinct by a hash.
    """
    clean = _NOT_LABEL.sub("-", text)
    trimmed = clean.strip("-_.")
    if trimmed == text and len(text) <= 63:
        return text
    head = trimmed[:54].rstrip("-_.")
    return f"{head}-{short_hash(text)}" if head else short_hash(text)
