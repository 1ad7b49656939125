"""A running server to a report on latency and throughput."""
