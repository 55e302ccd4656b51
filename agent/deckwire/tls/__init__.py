"""TLS wire grammar and message values; knows nothing of connections, sinks or BPF."""
