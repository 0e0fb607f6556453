"""What all parts of Taskfleet share: states, wire names, the TaskQueue model, the scaling rule, errors."""
