"""A MACVLAN network of its own, in network namespaces: for the demo, live tests and benchmarks.

Nothing of the machine's own network is touched. pyroute2, which is heavy, is imported only by
lab.network, and lab only by those who make one.
"""

from deckwire.lab.namespaces import LabError, remove_stale
from deckwire.lab.network import Lab, Node

__all__ = ["Lab", "LabError", "Node", "remove_stale"]
