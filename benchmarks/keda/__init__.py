"""KEDA beside Taskfleet on one cluster: `python -m benchmarks.keda`."""
