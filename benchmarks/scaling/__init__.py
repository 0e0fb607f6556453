"""The scaling rule beside its peers, in simulation: traces, rules, an oracle for the cost, tables."""
