"""What the engine asks of its machine: libraries for products, threads, memory, child processes."""
