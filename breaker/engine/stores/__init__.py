"""Where circuits are remembered: the Store port and its two implementations, Redis and memory."""
