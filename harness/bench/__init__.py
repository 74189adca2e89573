"""What a connection costs beside the residual: time, memory, and how far from the least that its traffic allows."""
