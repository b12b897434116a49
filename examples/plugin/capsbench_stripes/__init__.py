"""A template for plug-ins of capsbench."""
