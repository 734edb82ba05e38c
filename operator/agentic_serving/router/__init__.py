"""The program scheduler in the request path: hosts `program/` behind Envoy."""
