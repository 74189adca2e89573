"""Hyper-parameter search that treats every arm alike (docs/search.md)."""
