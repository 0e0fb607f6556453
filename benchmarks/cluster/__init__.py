"""What is measured on a real cluster: `python -m benchmarks.cluster`."""
