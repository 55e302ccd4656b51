"""Where finished lines go: a bounded queue and a thread for each file, socket or stdout."""
