"""Metrics of all processes of a service, in shared memory, and their exposition for Prometheus."""
