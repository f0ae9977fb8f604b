"""What is asked: cells to train on, queries, and the truth about them."""
