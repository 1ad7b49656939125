"""INT8: the ways to make a graph of it, and what is measured about them before one is served."""
