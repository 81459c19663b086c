"""Thin adapters, one module a trainer: its own calling convention in, `Scorer` calls out."""
