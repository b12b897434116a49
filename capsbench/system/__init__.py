"""What the machine gives and what it refuses: disk, child processes, memory, time."""
