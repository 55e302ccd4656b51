"""The loader: compiles with BCC, loads, attaches, hands everything over and exits.

Run by the agent as ``python -m deckwire.loader FD`` (__main__.py), a process of its own; not for
people. The only package that imports bcc and pyroute2, both late: attaching alone does without bcc,
and where the kernel has TCX without pyroute2.
"""
