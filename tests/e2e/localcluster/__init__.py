"""A real Kubernetes control plane on loopback, for the demo and the tests; no container engine needed.

Start reading at `controlplane.py`. Facts and measured times: `README.md` beside this file.
"""
