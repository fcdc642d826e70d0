from scalargrad.ops.arguments cimport pair, rank
