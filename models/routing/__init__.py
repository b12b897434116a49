"""Routing by agreement: ``route`` chooses among implementations of one function, ``reference`` is the truth."""

from capsbench.models.routing.reference import squash
from capsbench.models.routing.route import route

__all__ = ["route", "squash"]
