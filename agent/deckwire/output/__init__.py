"""From an event to a line at its receivers: emitter, line formats, escaping, sinks.

This room knows no traffic: an event is a name, a time, a host and fields.
"""
