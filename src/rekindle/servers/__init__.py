"""Servers over HTTP: one client, and what of an address and a reply may be written down."""
