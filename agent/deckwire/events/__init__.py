"""From observations to events: one module an event, each a pure function (docs/events.md)."""
