"""What turns one kind of input into arrays, the same in training and serving."""
