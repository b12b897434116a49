"""Routing by agreement: ``route`` chooses among implementations of one function, ``reference`` is the truth."""

from capsbench.models.routing.route import route
from capsbench.models.routing.squash import squash

__all__ = ["route", "squash"]
