"""``python -m capsbench`` is ``capsbench``."""

from capsbench.cli import main

main()
