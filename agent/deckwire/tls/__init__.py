"""TLS wire formats and message values, without connections, sinks or BPF."""
