"""What a trained stack of connections does with its network's signals (docs/connection-diagnostics.md)."""
