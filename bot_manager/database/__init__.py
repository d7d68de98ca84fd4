"""Connections to the database that neither hang nor lie."""
