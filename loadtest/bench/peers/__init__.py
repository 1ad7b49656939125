"""Other ways of serving the same graph: one program each, run by the Python of its own environment.

They use nothing of this project but ``padded``, and nothing here imports them but they themselves.
"""
