"""The demo: all stages once, on generated support tickets."""
