"""What the suite's keys and the comparison must agree on; imports nothing, for planning a suite takes no scipy."""

MARGIN = 0.005
"""Losses closer than this are equivalent where the suite says nothing else, in the unit of the loss."""

RUNGS = 3
"""Budgets that a ladder needs at least: floor, scale and exponent are three unknowns."""
