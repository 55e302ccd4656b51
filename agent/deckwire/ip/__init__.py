"""IP fragments: how they are read, and how a host of Linux puts them together.

This room has values and pure functions of the frames and times that it is given. It knows no
kernel, no connections and no events.
"""
