"""Requests a second of the gateway beside the bare session and a plain endpoint, in one run."""
