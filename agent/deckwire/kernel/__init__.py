"""The agent's system calls: maps, programs, rings, interfaces, namespaces, and the loader process.

Nothing here imports bcc or pyroute2, because they would cost the agent 90 MB. The loader imports
them. It is a process of its own that hands over its file descriptors and ends.
"""
