"""Pure builders of the objects that belong to a TaskQueue, one module per kind: no client, no clock, no logger."""
