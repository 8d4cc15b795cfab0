"""From pgoutput and COPY bytes to Arrow: ``kernel`` (bytes to a cell index), ``decoder`` and ``copy_decoder``."""
