"""What `taskfleet doctor` looks at: the API with what it depends on, the queues, and the parts in a cluster."""
