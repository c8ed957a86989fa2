"""What a run needs and costs, before it is started: nothing is written, no weights are needed."""
