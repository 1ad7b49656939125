"""Bundle to answers; imports none of the other stages, nor what they train with."""
