"""PostgreSQL types as Arrow types, and the compiled gathers that fill Arrow buffers from cells of a replication stream.

``types`` and ``builtin`` are light; ``gather`` and the kernels import numba and are loaded only by a process that
decodes.
"""
