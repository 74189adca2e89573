"""One self-contained page that says whether a suite's arms pay, with every figure's data beside it."""
