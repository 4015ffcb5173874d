"""What soft thinking costs besides the step: memory, replays, traces, metrics, the start."""
