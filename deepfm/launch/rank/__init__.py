"""Work of one rank of a training: its stages, its callbacks, and the evaluation of what it trained."""
