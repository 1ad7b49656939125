"""Recipe and data to checkpoint."""
