"""Wires view, decision and write together for each kind, and runs the operator's process."""
