"""A MACVLAN network in network namespaces of its own, for the demo, live tests and benchmarks.

It touches nothing of the machine's own network. lab.network imports pyroute2, which is heavy, so
only a command that makes a lab imports this package.
"""

from deckwire.lab.namespaces import LabError, remove_stale
from deckwire.lab.network import Lab, Node

__all__ = ["Lab", "LabError", "Node", "remove_stale"]
