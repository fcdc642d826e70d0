"""Tensor's methods, by subject: each is a line that calls the operation of the same name.

The classes are a chain, from Recordable by Saved, Arithmetic, Reductions, Shapes, InPlace, Conversion and Casting to
InGraph, which Tensor derives from: compiled classes have one base each, and operators keep their speed.
"""
