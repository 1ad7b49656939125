"""Several server processes on one port: who starts them, how they talk, what each knows of the others."""
