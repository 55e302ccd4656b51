"""What keeps the agent alive: contained exceptions and one-line reports.

Every other room may use it. It knows nothing of traffic or events.
"""
