"""Connections with the depth connection of one sub-layer and the width connection of the next in one pass."""
