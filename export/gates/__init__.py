"""The gates of an export, one file each: what an exported graph must show before it may serve."""
