"""Did a change make the models worse? Layers of rules against a baseline in git; docs/gate.md."""
