"""A node whose pods are processes: test and demo equipment, no part of the operator.

Start reading at `node.py`. What a pod may ask for is in `supported.py`.
"""
