"""Tells the program scheduler when a stream's first token came, without showing it any stream.

Engines send a stream's headers before they have computed the prompt, so the end of prefill is the first piece of its
body. An external processor would get every piece, or none; this small script of Envoy's Lua filter looks at pieces
until the first with content and then ends, so later ones cost nothing. It tells the scheduler in the background, by a
unary gRPC call with nothing but the request's id, and lets each piece pass at once; what fails is not repeated.
"""

from typing import Any

__all__ = ["FIRST_TOKEN_METHOD", "first_token_filter"]

#: `router/server.py` serves it; its message is the request's id as text.
FIRST_TOKEN_METHOD = "/agentic_serving.v1.Turns/FirstToken"  # noqa: S105 - of a prompt's tokens

#: The Responses API begins with events that say nothing yet (vLLM 0.32: `response.created`, `response.in_progress`).
#: A piece that begins with `:` is a comment, which keeps the connection open.
_SCRIPT = f"""
local OWN = "envoy.filters.http.lua"

function envoy_on_request(handle)
  local headers = handle:headers()
  local found = handle:streamInfo():dynamicMetadata()
  found:set(OWN, "id", headers:get("x-request-id") or "")
  local path = headers:get(":path") or ""
  found:set(OWN, "marker", string.find(path, "/responses", 1, true) and "event: response.output" or "")
end

local function has_content(chunk, marker)
  local length = chunk:length()
  if length == 0 then return false end
  if marker == "" then return chunk:getBytes(0, 1) ~= ":" end
  local text = chunk:getBytes(0, length)
  return string.find(text, marker, 1, true) ~= nil or string.find(text, "event: response.reasoning", 1, true) ~= nil
end

function envoy_on_response(handle)
  local kind = handle:headers():get("content-type") or ""
  if string.find(kind, "text/event-stream", 1, true) == nil then return end
  if handle:headers():get(":status") ~= "200" then return end
  local own = handle:streamInfo():dynamicMetadata():get(OWN)
  if own == nil or own["id"] == "" or #own["id"] > 200 then return end
  for chunk in handle:bodyChunks() do
    if has_content(chunk, own["marker"]) then
      handle:httpCall("scheduler", {{
        [":method"] = "POST",
        [":path"] = "{FIRST_TOKEN_METHOD}",
        [":authority"] = "scheduler",
        ["content-type"] = "application/grpc",
        ["te"] = "trailers",
      }}, string.char(0, 0, 0, 0, #own["id"]) .. own["id"], 1000, true)
      return
    end
  end
end
"""


def first_token_filter() -> dict[str, Any]:
    """Of the outer chain: it sees pieces as the client gets them."""
    config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": _SCRIPT},
    }
    return {"name": "first-token", "typed_config": config}
