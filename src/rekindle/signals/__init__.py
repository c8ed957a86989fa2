"""Where the learning signal is: measured on a small budget, with intervals, and said in words."""
