"""Which rows run together, and when: pure, with the run and the clock given from outside."""
