"""Hours of ordinary load with faults in it, to see what grows."""
