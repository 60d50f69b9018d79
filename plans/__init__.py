"""Declarations of all networks and configurations of the paper's tables, as JSON."""
