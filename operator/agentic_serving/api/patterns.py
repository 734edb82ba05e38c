"""What the patterns of string fields mean, in words: for messages and for the API reference.

A test requires an entry for every pattern of the schemas, and no other.
"""

__all__ = ["HINTS"]

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

#: From pattern to what may stand there, to follow "must be".
HINTS: dict[str, str] = {
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "lower-case letters, digits and '-', with a letter or digit at both ends",
    rf"^{_SUBDOMAIN}$": "lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
    rf"^(\*\.)?{_SUBDOMAIN}$": "a host name in lower case, such as chat.example.com or *.example.com",
    r"^([0-9]{1,5}(h|m|s|ms)){1,4}$": "a duration without fractions, such as 30s, 5m or 1h30m",
    r"^[0-9]{1,15}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$": "a quantity of bytes, such as 100Gi",
    r"^[1-9][0-9]{0,5}m?$": "a quantity of CPUs, such as 8 or 500m",
    r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$": "the name of an HTTP header, such as x-session-id",
    r"^[A-Za-z0-9][A-Za-z0-9._:/\-]*$": "letters, digits, '.', '_', ':', '/' and '-', beginning with a letter or digit",
    r"^[A-Za-z0-9._\-]+(/[A-Za-z0-9._\-]+)?$": "a repository, such as Qwen/Qwen3-32B",
    r"^[A-Za-z0-9._\-/]+$": "a branch, tag or commit",
    r"^[-._a-zA-Z0-9]+$": "letters, digits, '-', '_' and '.'",
    r"^([A-Za-z0-9_\-][A-Za-z0-9._\-]*/?)*$": "a relative path whose parts do not begin with '.'",
    r"^[a-zA-Z0-9][a-zA-Z0-9._\-/:@]*$": "an image reference, such as registry.example.com/vllm:v1",
    r"^[0-9]+\.[0-9]+\.[0-9]+([a-z.+\-][a-z0-9.+\-]*)?$": "a version, such as 0.33.0",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "letters, digits and '_', not beginning with a digit",
    r"^[A-Za-z0-9.\-]+/[A-Za-z0-9._\-]+$": "an extended resource, such as nvidia.com/gpu",
    r"^[a-z0-9][a-z0-9.\-]*$": "lower-case letters, digits, '.' and '-', beginning with a letter or digit",
    r"^([A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$": (
        "a host and a port, such as valkey.data.svc:6379"
    ),
    r"^[A-Za-z][A-Za-z0-9]*$": "letters and digits, beginning with a letter",
    r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$": "a word in CamelCase",
}
