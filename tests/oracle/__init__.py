"""The oracle: random tables and changes through a real PostgreSQL, our decoding against the server's own text.

``python -m tests.oracle --seeds 0:300 --majors 14 18``; a few seeds run in the normal suite.
"""
