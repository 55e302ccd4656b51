"""The loader: compiles with BCC, loads, attaches, hands everything over and ends.

The agent runs it as a process of its own (kernel/loader_process.py); it is no command for users.
It is the only package that imports bcc, and only to compile. It imports pyroute2 only for clsact
filters.
"""
