"""The page's figures: pure functions from plain data to a figure and the rows of its CSV."""
