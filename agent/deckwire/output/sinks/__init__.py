"""Where finished lines go: bounded queues in front of files, sockets and stdout."""
