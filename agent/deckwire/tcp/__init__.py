"""TCP as observed: addresses, SYN packets, handshakes, flow records, options, byte streams.

This room has values and pure functions. It knows no maps, sockets or events.
"""
