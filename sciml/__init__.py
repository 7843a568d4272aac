"""Neural operators and their training, evaluation and reports."""
