"""The process that holds the model: its socket, its HTTP, its one thread that runs the core.

In: requests of clients, over a unix socket or a port of the loopback. Out: events of their rows.
"""
