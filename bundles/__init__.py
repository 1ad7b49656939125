"""Bundles in people's hands: verify, show, diff, pack, push and pull what export wrote."""
