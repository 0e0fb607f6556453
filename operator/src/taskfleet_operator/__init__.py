"""The operator: kopf handlers enqueue, a reconcile observes, decides and applies."""
