"""What the agent needs of the kernel, by system calls: maps, programs, rings, links, the loader.

Nothing here imports bcc or pyroute2: they would cost the agent 90 MB. They live in the loader, a
process of its own that hands over its file descriptors and exits.
"""
